import numpy as np
import pytest

from worker.evaluation.proportions import exact_interval


def hits(right: int, wrong: int) -> np.ndarray:
    return np.repeat([True, False], [right, wrong])


@pytest.mark.parametrize(
    ("right", "wrong", "low", "high"),
    [
        # Beta quantiles, as in table 1 of Clopper and Pearson (1934) to its three digits.
        (8, 2, 0.4439, 0.9748),
        (20, 0, 0.8316, 1.0),
        (0, 20, 0.0, 0.1684),
        (90, 10, 0.8238, 0.9510),
    ],
)
def test_interval_of_independent_images_is_exact(right: int, wrong: int, low: float, high: float) -> None:
    found = exact_interval(hits(right, wrong), np.arange(right + wrong))
    assert found.value == right / (right + wrong)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_two_equal_eyes_of_a_patient_count_as_one() -> None:
    twice = exact_interval(np.repeat(hits(90, 10), 2), np.repeat(np.arange(100), 2))
    once = exact_interval(hits(90, 10), np.arange(100))
    assert twice.low == pytest.approx(once.low, abs=0.003)
    assert twice.high == pytest.approx(once.high, abs=0.003)


def test_eyes_of_a_patient_that_differ_at_random_count_each() -> None:
    random = np.random.default_rng(0)
    drawn = random.random(400) < 0.9
    paired = exact_interval(drawn, np.repeat(np.arange(200), 2))
    single = exact_interval(drawn, np.arange(400))
    assert paired.low == pytest.approx(single.low, abs=0.01)


def test_all_right_images_of_a_few_patients_are_not_certain() -> None:
    found = exact_interval(np.ones(40, bool), np.repeat(np.arange(10), 4))
    assert found.low == pytest.approx(0.025 ** (1 / 10), abs=1e-6)
    assert exact_interval(np.ones(40, bool), np.zeros(40, int)).low == pytest.approx(0.025)


def test_lower_end_holds_for_eyes_that_agree() -> None:
    """Of many programmes whose true sensitivity is just the required one, at most 2.5 % would be accepted."""
    random = np.random.default_rng(1)
    accepted = 0
    for _ in range(400):
        patient = np.repeat(random.random(60) < 0.85, 2)
        accepted += exact_interval(patient, np.repeat(np.arange(60), 2)).low >= 0.85
    assert accepted / 400 <= 0.025
