"""Photographs with identical pixels and different reference grades are found."""

from worker.training.dataset import DatasetIndex
from worker.training.label_conflicts import find_label_conflicts
from worker.training.plan import DEFAULT_RECIPE


def index(pixels: list[str], grades: list[int | None]) -> DatasetIndex:
    names = [f"i{number}" for number in range(len(pixels))]
    return DatasetIndex(
        recipe=DEFAULT_RECIPE,
        manifest_sha256="0" * 64,
        image_ids=names,
        grades=grades,
        patients=[None] * len(pixels),
        pixel_hashes=pixels,
        sources=[None] * len(pixels),
        left_out=[],
    )


def test_same_pixels_with_different_grades_are_listed_together() -> None:
    twice, agreed, thrice = "b" * 64, "c" * 64, "a" * 64
    found = find_label_conflicts(index([twice, thrice, agreed, thrice, twice, agreed, thrice], [2, 4, 3, 1, 1, 3, 1]))
    assert [(one.pixel_sha256, one.image_id, one.reference_grade) for one in found] == [
        (16 * "a", "i3", 1),
        (16 * "a", "i6", 1),
        (16 * "a", "i1", 4),
        (16 * "b", "i4", 1),
        (16 * "b", "i0", 2),
    ]


def test_agreeing_grades_are_not_listed() -> None:
    assert find_label_conflicts(index(["a" * 64, "a" * 64, "b" * 64], [2, 2, 0])) == []


def test_a_photograph_without_a_grade_is_in_no_conflict() -> None:
    assert find_label_conflicts(index(["a" * 64, "a" * 64], [2, None])) == []
