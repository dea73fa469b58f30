"""Chosen thresholds maximise the agreement with the reference grades."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from worker.model.ordinal import decode_outputs
from worker.training.thresholds import DEFAULT_THRESHOLDS, choose_thresholds


def low_outputs(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs that rank the grades well but pass at 0.3 instead of 0.5, and the grades."""
    random = np.random.default_rng(0)
    grades = random.integers(0, 5, count)
    distance = grades[:, None] - np.arange(5) + 0.5 + random.normal(0, 0.3, (count, 1))
    return (0.6 / (1 + np.exp(-4 * distance))).astype(np.float32), grades.astype(np.int64)


def kappa(probabilities: np.ndarray, grades: np.ndarray, thresholds: tuple[float, ...]) -> float:
    given = [int(decode_outputs(row, thresholds).grade) for row in probabilities]
    return float(cohen_kappa_score(grades, given, weights="quadratic"))


def test_low_outputs_get_low_thresholds_and_better_grades() -> None:
    probabilities, grades = low_outputs()
    chosen = choose_thresholds(probabilities, grades)
    assert chosen[0] == 0.5
    assert all(0.2 <= threshold <= 0.42 for threshold in chosen[1:])
    assert kappa(probabilities, grades, chosen) > kappa(probabilities, grades, DEFAULT_THRESHOLDS) + 0.05
    # Moving any single threshold improves nothing.
    best = kappa(probabilities, grades, chosen)
    for output in range(1, 5):
        for moved in (chosen[output] - 0.02, chosen[output] + 0.02):
            assert kappa(probabilities, grades, (*chosen[:output], moved, *chosen[output + 1 :])) <= best


def test_missing_grades_leave_valid_thresholds() -> None:
    probabilities, grades = low_outputs()
    few = grades < 2
    assert all(0 < threshold < 1 for threshold in choose_thresholds(probabilities[few], grades[few]))


@pytest.mark.parametrize("seed", [0, 1])
def test_order_of_the_images_does_not_matter(seed: int) -> None:
    probabilities, grades = low_outputs()
    order = np.random.default_rng(seed).permutation(len(grades))
    assert choose_thresholds(probabilities[order], grades[order]) == choose_thresholds(probabilities, grades)
