"""No image and no patient is in both parts of a split."""

import numpy as np
import pytest

from worker.training.split import group_images, read_training_hashes, split_groups, write_split


def hashes(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


def test_images_with_identical_pixels_share_a_group() -> None:
    assert group_images(["a", "b", "a"], [None, None, None]).tolist() == [0, 1, 0]


def test_two_eyes_of_a_patient_share_a_group() -> None:
    assert group_images(["a", "b", "c"], ["p", "q", "p"]).tolist() == [0, 1, 0]


def test_groups_are_joined_through_pixels_and_patients() -> None:
    # 3 and 0 are one patient, 0 and 2 the same pixels, 2 and 1 one patient.
    assert group_images(["a", "b", "a", "d"], ["p", "q", "q", "p"]).tolist() == [0, 0, 0, 0]


def test_images_without_a_patient_are_not_grouped() -> None:
    assert group_images(["a", "b", "c"], [None, "", None]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_no_patient_and_no_pixels_are_in_both_parts(seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = [f"{number:064x}" for number in random.integers(0, 300, 400)]
    patients = [None if number < 40 else f"patient-{number}" for number in random.integers(0, 200, 400)]
    validation = split_groups(pixels, patients, share=0.3, seed=seed)
    assert 0 < validation.sum() < 400
    for keys in (pixels, patients):
        sides: dict[str, set[bool]] = {}
        for key, held_out in zip(keys, validation.tolist(), strict=True):
            if key is not None:
                sides.setdefault(key, set()).add(held_out)
        assert all(len(side) == 1 for side in sides.values())


def test_share_of_the_groups_is_held_out() -> None:
    validation = split_groups(hashes(10_000), [None] * 10_000, share=0.16, seed=0)
    assert validation.mean() == pytest.approx(0.16, abs=3 * (0.16 * 0.84 / 10_000) ** 0.5)


def test_more_images_and_another_order_move_no_group() -> None:
    before = split_groups(hashes(100), [None] * 100, share=0.3, seed=5)
    after = split_groups(hashes(200)[::-1], [None] * 200, share=0.3, seed=5)[::-1]
    assert after[:100].tolist() == before.tolist()


def test_another_seed_gives_another_split() -> None:
    first, second = (split_groups(hashes(100), [None] * 100, share=0.3, seed=seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()


def test_written_split_lists_the_training_set_and_that_of_the_initial_weights() -> None:
    written = write_split(["c" * 64, "a" * 64, "a" * 64], np.array([True, False, False]), trained_before=["b" * 16])
    assert written.decode() == (
        "pixel_sha256,part\naaaaaaaaaaaaaaaa,training\nbbbbbbbbbbbbbbbb,training\ncccccccccccccccc,validation\n"
    )
    assert read_training_hashes(written) == {"a" * 16, "b" * 16}
