"""Thresholds for screening: sensitivity on each source first, within the specificity of every source."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.evaluation.screening_thresholds import ScreeningRule, choose_screening_thresholds

RULE = ScreeningRule(sensitivity=0.9, specificity=0.8)


def outputs(referable: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative probabilities (N, 5) with these referable probabilities; worse grades are never likely."""
    low = np.full_like(referable, 0.001)
    return np.stack([np.ones_like(referable), np.sqrt(referable), referable, low, low], axis=1)


def source(positive: list[float], negative: list[float]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return outputs(np.array(positive + negative)), np.array([2] * len(positive) + [0] * len(negative))


def choose(*sources: tuple[NDArray[np.float64], NDArray[np.int64]], rule: ScreeningRule = RULE) -> tuple[float, ...]:
    names = np.repeat([f"camera {number}" for number in range(len(sources))], [len(one[1]) for one in sources])
    probabilities, grades = (np.concatenate(parts) for parts in zip(*sources, strict=True))
    return choose_screening_thresholds(probabilities, grades, names, rule)


EASY = source([0.95] * 9 + [0.605], [0.005] * 9 + [0.505])
"""Sensitivity is 0.9 up to a threshold of 0.94, and specificity 0.9 even at 0.01."""


def test_highest_threshold_with_the_sensitivity_is_chosen() -> None:
    assert choose(EASY)[2] == pytest.approx(0.94)
    assert choose(EASY, rule=ScreeningRule(0.95, 0.8))[2] == pytest.approx(0.60)


def test_source_with_the_lowest_outputs_decides() -> None:
    hard = source([0.305] * 9 + [0.1], [0.005] * 10)
    assert choose(EASY, hard)[2] == pytest.approx(0.30)


def test_no_source_falls_below_the_specificity() -> None:
    # Sensitivity 0.9 would need a threshold below 0.2, where only 6 of 10 are negative.
    hopeless = source([0.205] * 10, [0.005] * 6 + [0.405] * 4)
    assert choose(EASY, hopeless)[2] == pytest.approx(0.41)
    bright = source([0.95] * 10, [0.755] * 3 + [0.005] * 7)
    low = source([0.305] * 10, [0.005] * 10)
    assert choose(low, bright)[2] == pytest.approx(0.76)


def test_worse_grades_refer_no_more_images() -> None:
    chosen = choose(EASY, source([0.305] * 10, [0.005] * 10))
    assert chosen[0] == 0.5
    assert min(chosen[3:]) >= chosen[2]


def test_other_thresholds_have_the_best_kappa_of_the_mean() -> None:
    probabilities = np.array([[1, 0.05, 0.01, 0, 0]] * 10 + [[1, 0.155, 0.01, 0, 0]] * 10 + [[1, 0.9, 0.9, 0, 0]] * 10)
    grades = np.repeat([0, 1, 2], 10)
    chosen = choose_screening_thresholds(probabilities, grades, np.full(30, "a"), RULE)
    assert 0.05 <= chosen[1] < 0.155


def test_source_with_referable_images_only_is_refused() -> None:
    with pytest.raises(UsageError, match="only referable or only non-referable"):
        choose(EASY, (outputs(np.array([0.9, 0.8])), np.array([2, 3])))
