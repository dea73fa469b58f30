"""Coverage of lesions by kind, on masks with known places."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.evaluation.saliency.test_pointing_game import FIELD, WHOLE
from worker.evaluation.saliency.lesion_coverage import ANY_LESION, measure_coverage
from worker.evaluation.saliency.lesion_masks import AnnotatedPhotograph
from worker.imaging.photograph import Photograph

PHOTOGRAPH = Photograph(np.zeros((512, 512, 3), np.uint8))
CELL = (slice(64, 128), slice(192, 256))  # row 1, column 3 of a map of 8 x 8


def one_cell() -> NDArray[np.float32]:
    saliency = np.zeros((8, 8), np.float32)
    saliency[1, 3] = 1
    return saliency


def annotated(mask: NDArray[np.uint8]) -> AnnotatedPhotograph:
    return AnnotatedPhotograph("eye", PHOTOGRAPH, FIELD, WHOLE, mask)


def test_each_kind_is_measured_alone_and_absent_kinds_are_missing() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[90:102, 218:230] = 4  # in the middle of the cell
    mask[400:412, 218:230] = 2  # far from it
    mask[250:260, 250:260] = 16  # the optic disc is no lesion
    found = measure_coverage(annotated(mask), one_cell())
    assert found.lesions == {ANY_LESION: 0.5, "haemorrhages": 0, "hard exudates": 1}
    assert 0 < found.field < 0.05


def test_lesions_outside_the_field_do_not_count() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[:20, :20] = 1
    assert measure_coverage(annotated(mask), one_cell()).lesions == {}


@pytest.mark.parametrize(("value", "share"), [(1.0, 1.0), (0.0, 0.0)])
def test_uniform_map_covers_the_field_and_an_empty_one_nothing(value: float, share: float) -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[CELL] = 8
    found = measure_coverage(annotated(mask), np.full((8, 8), value, np.float32))
    assert found.lesions == {ANY_LESION: share, "soft exudates": share}
    assert found.field == share
