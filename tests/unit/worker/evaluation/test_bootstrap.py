import numpy as np
import pytest

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.bootstrap import Estimate, bootstrap_metrics


def halves(count: int, patients: list[str] | None = None, resamples: int = 1000) -> dict[str, Estimate]:
    """Half of the images right, half wrong by one grade."""
    return bootstrap_metrics(labelled([0] * count, [0, 1] * (count // 2), patients=patients), resamples=resamples)


def test_interval_of_a_share_is_the_binomial_one() -> None:
    accuracy = halves(400)["accuracy"]
    assert accuracy.value == 0.5
    # 1.96 standard errors of 0.025.
    assert accuracy.low == pytest.approx(0.451, abs=0.006)
    assert accuracy.high == pytest.approx(0.549, abs=0.006)


def test_images_of_one_patient_are_drawn_together() -> None:
    # Ten patients of 40 images that are all right or all wrong are worth ten images, not 400.
    patients = [f"p{number % 10}" for number in range(400)]
    accuracy = halves(400, patients)["accuracy"]
    assert accuracy.low == pytest.approx(0.2, abs=0.06)
    assert accuracy.high == pytest.approx(0.8, abs=0.06)


def test_same_seed_gives_the_same_interval() -> None:
    assert halves(40, resamples=20) == halves(40, resamples=20)


def test_what_the_images_cannot_tell_is_none() -> None:
    figures = halves(40, resamples=20)
    assert figures["recall_grade_4"] == Estimate(None, None, None)
    assert figures["referable_auc"] == Estimate(None, None, None)


def test_figure_that_some_resamples_lack_is_judged_by_the_others() -> None:
    figures = bootstrap_metrics(labelled([0] * 9 + [2], [0] * 9 + [2]), resamples=200)
    assert figures["recall_grade_2"] == Estimate(1.0, 1.0, 1.0)


def test_each_resample_is_told() -> None:
    told: list[int] = []
    bootstrap_metrics(labelled([0, 1], [0, 1]), resamples=7, on_progress=lambda: told.append(1))
    assert len(told) == 7


def test_no_image_gives_no_figure() -> None:
    images = labelled([0, 1], [0, 1]).select(np.array([False, False]))
    assert set(bootstrap_metrics(images, resamples=3).values()) == {Estimate(None, None, None)}
