"""Target probabilities of the five cumulative outputs, from reference grades and a teacher."""

import numpy as np
from numpy.typing import NDArray

from worker.model.ordinal import OUTPUTS
from worker.training.dataset import UNGRADED


def make_targets(
    grades: NDArray[np.int64],
    *,
    smoothing: float,
    taught: NDArray[np.float32] | None = None,
    teacher_share: float = 0.0,
) -> NDArray[np.float32]:
    """Return the targets, float32 (N, 5): of output g, whether the grade is g or worse.

    grades: reference grades, (N,), UNGRADED without one. smoothing: targets are this value and one minus it instead of
    0 and 1. taught: probabilities by the teacher, (N, 5), a row of NaN where it gave none. teacher_share: weight of the
    teacher where there are both; otherwise there is one source. The cross-entropy is linear in its targets, so a
    weighted mean of targets is a weighted mean of losses. A row without either is NaN.
    """
    reached = grades[:, None] >= np.arange(OUTPUTS)
    targets = np.asarray(reached * (1 - 2 * smoothing) + smoothing, np.float32)
    targets[grades == UNGRADED] = np.nan
    if taught is None:
        return targets
    mixed = (1 - teacher_share) * targets + teacher_share * taught
    return np.asarray(np.where(np.isnan(targets), taught, np.where(np.isnan(taught), targets, mixed)), np.float32)
