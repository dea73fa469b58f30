"""Rank images by how much ROC AUC they cost; the top ones are often labelling errors."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from worker.evaluation.agreement import CUTS
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import NOT_GRADED, Labelled

MAX_LISTED = 12
"""Most images listed for a cut."""


class CostlyImage(JsonDocument):
    """An image that is ranked on the wrong side of many others; `loss` is its part of 1 - AUC."""

    image_id: str
    reference: int
    grade: int
    probability: float = Field(serialization_alias="chance")
    """Predicted probability of the cut's grade or worse."""
    loss: float


def auc_loss_per_image(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of 1 - AUC that each image costs, float64 (N,), with the sum 1 - AUC.

    Both images of a pair in the wrong order get half of its share; a tie costs half. truth, probability: (N,). All zero
    unless both classes occur.
    """
    lost = np.zeros(len(truth))
    positive, negative = np.sort(probability[truth]), np.sort(probability[~truth])
    if len(positive) and len(negative):
        pairs = 2 * len(positive) * len(negative)
        above = len(negative) - _count_below(negative, probability[truth])
        lost[truth], lost[~truth] = above / pairs, _count_below(positive, probability[~truth]) / pairs
    return lost


def find_costliest(images: Labelled) -> dict[str, list[CostlyImage]]:
    """Return up to MAX_LISTED images for each cut that cost any AUC, the costliest first."""
    graded = images.select(images.grades != NOT_GRADED)
    found = {}
    for name, cut in CUTS.items():
        probability = graded.probabilities[:, cut]
        loss = auc_loss_per_image(graded.reference >= cut, probability)
        worst = np.argsort(-loss, kind="stable")[:MAX_LISTED]
        found[name] = [
            CostlyImage(
                image_id=str(graded.ids[place]),
                reference=int(graded.reference[place]),
                grade=int(graded.grades[place]),
                probability=float(probability[place]),
                loss=float(loss[place]),
            )
            for place in worst[loss[worst] > 0]
        ]
    return found


def _count_below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count the elements of `ordered` below each value; equal ones count half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
