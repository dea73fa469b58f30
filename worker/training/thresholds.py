"""Choose the threshold of each cumulative output that gives the best agreement with the reference grades."""

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.agreement import confusion_matrix, quadratic_weighted_kappa
from worker.model.class_activation_maps import find_highest_passed
from worker.model.ordinal import DEFAULT_THRESHOLDS, OUTPUTS, Thresholds

_CANDIDATES = np.arange(5, 46) / 50
_PASSES = 4


def choose_thresholds(probabilities: NDArray[np.float32], grades: NDArray[np.int64]) -> Thresholds:
    """Return the thresholds with the highest quadratic weighted kappa, by coordinate ascent: four passes from 0.5.

    probabilities: float32 (N, 5). grades: reference grades, int (N,), of images that validate nothing else. The first
    output is true of every image, so its threshold stays 0.5.
    """
    chosen = list(DEFAULT_THRESHOLDS)
    for _ in range(_PASSES):
        for output in range(1, OUTPUTS):
            kappas = [
                quadratic_weighted_kappa(
                    confusion_matrix(
                        grades, find_highest_passed(probabilities, [*chosen[:output], candidate, *chosen[output + 1 :]])
                    )
                )
                for candidate in _CANDIDATES
            ]
            chosen[output] = float(_CANDIDATES[int(np.argmax(kappas))])
    none, mild, moderate, severe, proliferative = chosen
    return none, mild, moderate, severe, proliferative
