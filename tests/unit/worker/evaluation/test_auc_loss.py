"""The AUC losses of the images sum to 1 - AUC."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.auc_loss import MAX_LISTED, auc_loss_per_image, find_costliest


@pytest.mark.parametrize("decimals", [1, 8])
def test_losses_are_halves_of_wrong_pairs_and_sum_to_1_minus_auc(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    truth = random.random(60) < 0.3
    chance = np.round(np.clip(0.2 * truth + random.random(60), 0, 1), decimals)
    parts = auc_loss_per_image(truth, chance)
    sick, well = np.flatnonzero(truth), np.flatnonzero(~truth)
    by_pair = np.zeros(60)
    for one in sick:
        for other in well:
            wrong = 1.0 if chance[one] < chance[other] else 0.5 if chance[one] == chance[other] else 0.0
            by_pair[[one, other]] += wrong / (2 * len(sick) * len(well))
    assert parts == pytest.approx(by_pair)
    assert parts.sum() == pytest.approx(1 - roc_auc_score(truth, chance))


@pytest.mark.parametrize("truth", [[True, True], [False, False], []])
def test_loss_is_zero_unless_both_classes_occur(truth: list[bool]) -> None:
    parts = auc_loss_per_image(np.array(truth, bool), np.linspace(0, 1, len(truth)))
    assert parts.tolist() == [0.0] * len(truth)


def test_costliest_images_are_first_and_correct_or_ungraded_ones_not_listed() -> None:
    images = labelled([0, 0, 1, 2, 4, 2], [0, 0, 3, 2, 0, None], [0.1, 0.3, 0.9, 0.8, 0.2, 0.0])
    found = find_costliest(images)["referable"]
    assert [(one.image_id, one.reference, one.grade, one.probability) for one in found] == [
        ("i002", 1, 3, 0.9),  # above both that are referable
        ("i004", 4, 0, 0.2),  # below two that are not
        ("i001", 0, 0, 0.3),
        ("i003", 2, 2, 0.8),
    ]
    assert [one.loss for one in found] == pytest.approx([2 / 12, 2 / 12, 1 / 12, 1 / 12])


def test_list_is_truncated() -> None:
    count = 4 * MAX_LISTED
    images = labelled([0, 4] * count, [4, 0] * count, [0.9, 0.1] * count)
    found = find_costliest(images)
    assert {cut: len(listed) for cut, listed in found.items()} == {
        "referable": MAX_LISTED,
        "vision_threatening": MAX_LISTED,
    }
