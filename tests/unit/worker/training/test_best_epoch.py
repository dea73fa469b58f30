"""The best epoch is chosen by a metric that is averaged over the sources."""

import pytest

from worker.training.fit import find_best_epoch
from worker.training.validation import SOURCE_MEAN

HISTORY = [
    {
        "quadratic_weighted_kappa": 0.9,
        f"{SOURCE_MEAN}quadratic_weighted_kappa": kappa,
        f"{SOURCE_MEAN}validation_loss": loss,
        f"{SOURCE_MEAN}referable_auc": auc,
    }
    for kappa, loss, auc in ((0.5, 0.3, None), (0.7, 0.2, 0.8), (0.7, 0.1, 0.8), (0.6, 0.4, 0.9))
]


@pytest.mark.parametrize(("choose_by", "epoch"), [("kappa", 2), ("loss", 3), ("auc", 4)])
def test_best_epoch_by_each_metric(choose_by: str, epoch: int) -> None:
    assert find_best_epoch(HISTORY, choose_by) == epoch  # type: ignore[arg-type]


def test_epoch_without_the_metric_ranks_last() -> None:
    assert find_best_epoch(HISTORY[:2], "auc") == 2
