import numpy as np
import pytest

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.bootstrap import Estimate, bootstrap_metrics


def estimate_half_correct(count: int, patients: list[str] | None = None, resamples: int = 1000) -> dict[str, Estimate]:
    """Estimate metrics of images of which half are correct and half wrong by one grade."""
    return bootstrap_metrics(labelled([0] * count, [0, 1] * (count // 2), patients=patients), resamples=resamples)


def test_interval_of_accuracy_is_binomial() -> None:
    accuracy = estimate_half_correct(400)["accuracy"]
    assert accuracy.value == 0.5
    # 1.96 standard errors of 0.025.
    assert accuracy.low == pytest.approx(0.451, abs=0.006)
    assert accuracy.high == pytest.approx(0.549, abs=0.006)


def test_images_of_one_patient_are_resampled_together() -> None:
    # Ten patients with 40 images each, all correct or all wrong, count like ten images, not 400.
    patients = [f"p{number % 10}" for number in range(400)]
    accuracy = estimate_half_correct(400, patients)["accuracy"]
    assert accuracy.low == pytest.approx(0.2, abs=0.06)
    assert accuracy.high == pytest.approx(0.8, abs=0.06)


def test_same_seed_gives_the_same_interval() -> None:
    assert estimate_half_correct(40, resamples=20) == estimate_half_correct(40, resamples=20)


def test_undefined_metric_is_none() -> None:
    figures = estimate_half_correct(40, resamples=20)
    assert figures["recall_grade_4"] == Estimate(None, None, None)
    assert figures["referable_auc"] == Estimate(None, None, None)


def test_resamples_in_which_a_metric_is_undefined_are_ignored() -> None:
    figures = bootstrap_metrics(labelled([0] * 9 + [2], [0] * 9 + [2]), resamples=200)
    assert figures["recall_grade_2"] == Estimate(1.0, 1.0, 1.0)


def test_progress_is_reported_for_each_resample() -> None:
    calls: list[int] = []
    bootstrap_metrics(labelled([0, 1], [0, 1]), resamples=7, on_progress=lambda: calls.append(1))
    assert len(calls) == 7


def test_no_image_gives_no_metric() -> None:
    images = labelled([0, 1], [0, 1]).select(np.array([False, False]))
    assert set(bootstrap_metrics(images, resamples=3).values()) == {Estimate(None, None, None)}
