"""On which images the area under the curve was lost: where the model is right of them, the reference errs."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from worker.evaluation.agreement import CUTS
from worker.evaluation.labelled import NOT_GRADED, Labelled

MAX_LISTED = 12


class CostlyImage(BaseModel):
    """An image that stands on the wrong side of many others; `loss` is its part of 1 - AUC."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    reference: int
    grade: int
    chance: float
    """That it is of the cut's grade or worse."""
    loss: float


def auc_loss_per_image(truth: NDArray[np.bool_], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of 1 - AUC was lost on each image, float64 (N,): halves of the pairs in the wrong order, and of ties half.

    truth, chance: (N,). Nothing where all are sick or none is.
    """
    lost = np.zeros(len(truth))
    sick, well = np.sort(chance[truth]), np.sort(chance[~truth])
    if len(sick) and len(well):
        pairs = 2 * len(sick) * len(well)
        above = len(well) - _count_below(well, chance[truth])
        lost[truth], lost[~truth] = above / pairs, _count_below(sick, chance[~truth]) / pairs
    return lost


def find_costliest(images: Labelled) -> dict[str, list[CostlyImage]]:
    """The first LISTED of each cut that cost anything, the costliest first."""
    graded = images.select(images.grades != NOT_GRADED)
    found = {}
    for name, cut in CUTS.items():
        chance = graded.probabilities[:, cut]
        loss = auc_loss_per_image(graded.reference >= cut, chance)
        worst = np.argsort(-loss, kind="stable")[:MAX_LISTED]
        found[name] = [
            CostlyImage(
                image_id=str(graded.ids[place]),
                reference=int(graded.reference[place]),
                grade=int(graded.grades[place]),
                chance=float(chance[place]),
                loss=float(loss[place]),
            )
            for place in worst[loss[worst] > 0]
        ]
    return found


def _count_below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `ordered` are below each value, and half of those that equal it."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
