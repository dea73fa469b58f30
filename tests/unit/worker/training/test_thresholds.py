"""Thresholds make grades agree best with the reference, and no better than they can."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from worker.model.ordinal import decode_outputs
from worker.training.thresholds import DEFAULT_THRESHOLDS, choose_thresholds


def shy(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that rank the grades well and reach 0.3 where they should pass, and the grades."""
    random = np.random.default_rng(0)
    grades = random.integers(0, 5, count)
    distance = grades[:, None] - np.arange(5) + 0.5 + random.normal(0, 0.3, (count, 1))
    return (0.6 / (1 + np.exp(-4 * distance))).astype(np.float32), grades.astype(np.int64)


def kappa(probabilities: np.ndarray, grades: np.ndarray, thresholds: tuple[float, ...]) -> float:
    given = [int(decode_outputs(row, thresholds).grade) for row in probabilities]
    return float(cohen_kappa_score(grades, given, weights="quadratic"))


def test_shy_outputs_get_low_thresholds_and_better_grades() -> None:
    probabilities, grades = shy()
    chosen = choose_thresholds(probabilities, grades)
    assert chosen[0] == 0.5
    assert all(0.2 <= threshold <= 0.42 for threshold in chosen[1:])
    assert kappa(probabilities, grades, chosen) > kappa(probabilities, grades, DEFAULT_THRESHOLDS) + 0.05
    # No single one can be moved for the better.
    best = kappa(probabilities, grades, chosen)
    for output in range(1, 5):
        for moved in (chosen[output] - 0.02, chosen[output] + 0.02):
            assert kappa(probabilities, grades, (*chosen[:output], moved, *chosen[output + 1 :])) <= best


def test_grade_that_is_nowhere_leaves_a_threshold_that_a_bundle_can_have() -> None:
    probabilities, grades = shy()
    few = grades < 2
    assert all(0 < threshold < 1 for threshold in choose_thresholds(probabilities[few], grades[few]))


@pytest.mark.parametrize("seed", [0, 1])
def test_same_pictures_give_the_same(seed: int) -> None:
    probabilities, grades = shy()
    order = np.random.default_rng(seed).permutation(len(grades))
    assert choose_thresholds(probabilities[order], grades[order]) == choose_thresholds(probabilities, grades)
