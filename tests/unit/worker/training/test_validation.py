"""Validation metrics of all images, of each source, and their mean over the sources."""

import numpy as np
import pytest

from worker.training.validation import SOURCE_MEAN, validate

RIGHT, WRONG = [1, 0.9, 0.8, 0.1, 0.1], [1, 0.2, 0.1, 0.1, 0.1]
"""Outputs of a photograph of grade 2 that is graded 2, and 0."""


def test_each_source_counts_equally_in_the_mean() -> None:
    probabilities = np.array([RIGHT] * 6 + [WRONG] * 2, np.float32)
    metrics = validate(probabilities, np.full(8, 2), np.array(["a"] * 6 + ["b"] * 2))
    assert metrics["accuracy"] == 0.75
    assert (metrics["a/accuracy"], metrics["b/accuracy"]) == (1, 0)
    assert metrics[f"{SOURCE_MEAN}accuracy"] == 0.5
    mean = (metrics["a/validation_loss"] + metrics["b/validation_loss"]) / 2
    assert metrics[f"{SOURCE_MEAN}validation_loss"] == pytest.approx(mean)
    assert metrics["validation_loss"] < mean


def test_metric_that_a_source_does_not_define_is_left_out_of_the_mean() -> None:
    probabilities = np.array([RIGHT, WRONG, RIGHT], np.float32)
    metrics = validate(probabilities, np.array([2, 0, 2]), np.array(["a", "a", "b"]))
    assert metrics["b/referable_auc"] is None
    assert metrics[f"{SOURCE_MEAN}referable_auc"] == metrics["a/referable_auc"] == 1


def test_images_without_a_source_are_one_source_without_a_name() -> None:
    metrics = validate(np.array([RIGHT, WRONG], np.float32), np.array([2, 0]), np.array(["", ""]))
    assert metrics[f"{SOURCE_MEAN}accuracy"] == metrics["accuracy"] == 1
    assert not [name for name in metrics if "/" in name]
