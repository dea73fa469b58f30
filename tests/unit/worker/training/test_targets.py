"""Targets of the cumulative outputs."""

import numpy as np
import pytest

from worker.training.dataset import UNGRADED
from worker.training.targets import make_targets


def test_targets_are_the_outputs_that_a_grade_reaches() -> None:
    targets = make_targets(np.array([0, 2, 4]), smoothing=0.0)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_smoothing_moves_targets_towards_a_half() -> None:
    (targets,) = make_targets(np.array([1]), smoothing=0.1)
    assert targets == pytest.approx([0.9, 0.9, 0.1, 0.1, 0.1])


def test_teacher_is_mixed_with_a_grade_and_stands_alone_without_one() -> None:
    taught = np.array([[1, 0.6, 0.2, 0, 0], [1, 0.6, 0.2, 0, 0], [np.nan] * 5], np.float32)
    both, taught_only, graded_only = make_targets(
        np.array([1, UNGRADED, 2]), smoothing=0.0, taught=taught, teacher_share=0.25
    )
    assert both == pytest.approx([1, 0.9, 0.05, 0, 0])
    assert taught_only == pytest.approx([1, 0.6, 0.2, 0, 0])
    assert graded_only.tolist() == [1, 1, 1, 0, 0]


def test_an_image_without_grade_and_teacher_has_no_targets() -> None:
    assert np.isnan(make_targets(np.array([UNGRADED]), smoothing=0.0)).all()
