"""Rare grades are drawn more often, and every image is used."""

import numpy as np
import pytest

from worker.training.dataset import UNGRADED
from worker.training.sampling import number_strata, order_epoch

GRADES = np.repeat([0, 1, 2, 3, 4], [64, 4, 16, 4, 16])


def draws(balance: float, *, epoch: int = 0) -> list[int]:
    """Return the number of draws of each grade in an epoch of 13 batches of 8."""
    order = order_epoch(GRADES, batch_size=8, balance=balance, seed=3, epoch=epoch)
    assert order.shape == (13, 8)
    return np.bincount(GRADES[order.ravel()], minlength=5).tolist()


@pytest.mark.parametrize(
    ("balance", "expected"),
    # The square roots are 8, 2, 4, 2, 4, in total 20; of 104 draws that is 41.6, 10.4, 20.8, 10.4, 20.8.
    [(1.0, [64, 4, 16, 4, 16]), (0.5, [42, 10, 21, 10, 21]), (0.0, [21, 21, 21, 21, 20])],
)
def test_draws_of_each_grade_follow_the_power_of_its_count(balance: float, expected: list[int]) -> None:
    assert draws(balance) == expected


def test_all_images_of_a_grade_are_drawn_before_any_repeats() -> None:
    order = order_epoch(GRADES, batch_size=8, balance=0.5, seed=3, epoch=0).ravel()
    times = np.bincount(order, minlength=len(GRADES))
    assert times[GRADES == 1].tolist() == pytest.approx([2.5] * 4, abs=0.5)
    assert times[GRADES == 2].min() == 1
    assert times[GRADES == 0].max() == 1


def test_each_grade_of_each_source_is_a_stratum() -> None:
    sources = np.repeat(["clinic", "camera 2", "clinic"], [80, 20, 4])
    strata = number_strata(GRADES, sources)
    order = order_epoch(strata, batch_size=8, balance=0.0, seed=3, epoch=0).ravel()
    pairs, counts = np.unique(np.stack([sources[order], GRADES[order].astype(str)]), axis=1, return_counts=True)
    present = {(source, grade) for source, grade in zip(sources.tolist(), GRADES.astype(str).tolist(), strict=True)}
    assert set(zip(*pairs.tolist(), strict=True)) == present
    assert counts.max() - counts.min() <= 1


def test_ungraded_images_of_each_source_are_a_stratum() -> None:
    grades = np.array([4, UNGRADED, UNGRADED, 0])
    assert len(set(number_strata(grades, np.array(["a", "a", "b", "b"])).tolist())) == 4


def test_order_depends_on_seed_and_epoch() -> None:
    orders = [
        order_epoch(GRADES, batch_size=8, balance=0.5, seed=s, epoch=e) for s, e in ((1, 2), (1, 2), (1, 3), (2, 2))
    ]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[3])


def test_fewer_images_than_a_batch_give_one_batch() -> None:
    order = order_epoch(np.array([0, 1, 1]), batch_size=8, balance=1.0, seed=0, epoch=0)
    assert order.shape == (1, 8)
    assert set(order.ravel()) == {0, 1, 2}
