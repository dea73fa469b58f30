"""The pointing game on masks whose answer is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.card.pointing import GRID, Annotated, find_maximum, play, read_annotated
from worker.contract.errors import SourceError
from worker.contract.vocabulary import Grade
from worker.training.plan import DEFAULT_RECIPE

SIDE = 256


def peak(row: int, column: int) -> NDArray[np.float32]:
    saliency = np.zeros((8, 8), np.float32)
    saliency[row, column] = 1
    return saliency


def write_eye(folder: Path, name: str, bits: NDArray[np.uint8]) -> None:
    """A round field that fills the picture, and a mask."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.circle(picture, (SIDE // 2, SIDE // 2), SIDE // 2 - 1, (60, 90, 160), -1)
    cv2.imwrite(str(folder / f"{name}.jpg"), picture)
    cv2.imwrite(str(folder / f"{name}_lesions.png"), bits)


def bits_at(row: int, column: int, bit: int) -> NDArray[np.uint8]:
    bits = np.zeros((SIDE, SIDE), np.uint8)
    bits[row, column] = bit
    return bits


def test_maximum_is_the_middle_of_the_highest_cell() -> None:
    assert find_maximum(peak(0, 7)) == (32.0, 480.0)


def test_share_counts_hits_and_tells_them_by_explained_grade() -> None:
    left = np.zeros((GRID, GRID), bool)
    left[:, : GRID // 4] = True
    annotated = [Annotated(Path(), left)] * 4
    maps = [peak(3, 0), peak(3, 7), peak(0, 1), np.zeros((8, 8), np.float32)]
    found = play(annotated, maps, [Grade.SEVERE, Grade.SEVERE, Grade.MILD, Grade.MILD])
    assert (found.images, found.hits, found.share.value) == (4, 2, 0.5)
    # Wilson's interval of 2 in 4: (0.5 + z^2/8 -+ z sqrt(1/16 + z^2/64)) / (1 + z^2/4), z = 1.96.
    assert found.share.low == pytest.approx(0.150, abs=0.001)
    assert found.share.high == pytest.approx(0.850, abs=0.001)
    assert {grade: (count, share.value) for grade, (count, share) in found.by_grade.items()} == {
        1: (2, 0.5),
        3: (2, 0.5),
    }
    assert (found.centre, found.chance) == (0.0, 0.25)


def test_lesion_of_one_pixel_is_wider_by_the_tolerance(tmp_path: Path) -> None:
    write_eye(tmp_path, "eye", bits_at(100, 60, 2))
    (found,) = read_annotated(tmp_path, DEFAULT_RECIPE)
    # A disc of radius 15 on the grid of 512, whose steps are half a pixel.
    assert found.mask.sum() == pytest.approx(np.pi * 15**2, rel=0.1)
    rows, columns = np.nonzero(found.mask)
    assert (rows.mean() / 2, columns.mean() / 2) == pytest.approx((100, 60), abs=1.5)


def test_optic_disc_is_no_lesion(tmp_path: Path) -> None:
    write_eye(tmp_path, "disc", bits_at(100, 60, 16))
    write_eye(tmp_path, "both", bits_at(100, 60, 16 | 4))
    assert [found.path.name for found in read_annotated(tmp_path, DEFAULT_RECIPE)] == ["both.jpg"]


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_eye(tmp_path, "eye", np.ones((SIDE, SIDE - 1), np.uint8))
    with pytest.raises(SourceError, match=r"eye_lesions\.png is \(256, 255\), its photograph \(256, 256\)"):
        read_annotated(tmp_path, DEFAULT_RECIPE)


def test_mask_without_a_photograph_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no photograph NAME\.jpg with a mask"):
        read_annotated(tmp_path, DEFAULT_RECIPE)
    write_eye(tmp_path, "eye", bits_at(9, 9, 1))
    (tmp_path / "eye.jpg").unlink()
    with pytest.raises(SourceError, match=r"cannot read .*eye\.jpg"):
        read_annotated(tmp_path, DEFAULT_RECIPE)
