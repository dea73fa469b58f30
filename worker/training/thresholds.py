"""Where each cumulative output should count as passed, so that the grades agree best with the reference."""

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.agreement import confusion_matrix, quadratic_weighted_kappa
from worker.model.class_activation_maps import find_highest_passed
from worker.model.ordinal import DEFAULT_THRESHOLDS, OUTPUTS, Thresholds

_TRIED = np.arange(5, 46) / 50
_PASSES = 4


def choose_thresholds(probabilities: NDArray[np.float32], grades: NDArray[np.int64]) -> Thresholds:
    """Those with the highest quadratic weighted kappa, found one output after the other, four times over from 0.5.

    The first output passes for every eye, so its own stays 0.5. probabilities: float32 (N, 5). grades: reference
    grades, int (N,), of pictures that judge nothing else.
    """
    chosen = list(DEFAULT_THRESHOLDS)
    for _ in range(_PASSES):
        for output in range(1, OUTPUTS):
            kappas = [
                quadratic_weighted_kappa(
                    confusion_matrix(
                        grades, find_highest_passed(probabilities, [*chosen[:output], tried, *chosen[output + 1 :]])
                    )
                )
                for tried in _TRIED
            ]
            chosen[output] = float(_TRIED[int(np.argmax(kappas))])
    none, mild, moderate, severe, proliferative = chosen
    return none, mild, moderate, severe, proliferative
