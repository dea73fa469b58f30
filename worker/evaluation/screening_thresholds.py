"""Choose thresholds for screening on labelled images of several sources: sensitivity first, within a specificity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.vocabulary import REFERABLE_FROM, Grade
from worker.evaluation.agreement import confusion_matrix, quadratic_weighted_kappa
from worker.model.class_activation_maps import find_highest_passed
from worker.model.ordinal import DEFAULT_THRESHOLDS, Thresholds

CANDIDATES = np.arange(1, 100) / 100
_PASSES = 3


@dataclass(frozen=True, slots=True)
class ScreeningRule:
    """Least sensitivity and specificity for referable DR, in (0, 1)."""

    sensitivity: float = 0.90
    specificity: float = 0.80

    def __str__(self) -> str:
        return (
            f"referable sensitivity of at least {self.sensitivity:.2f} on each source, unless the specificity of a"
            f" source would be below {self.specificity:.2f}; other grades by the mean kappa of the sources"
        )


def choose_screening_thresholds(
    probabilities: NDArray[np.floating], grades: NDArray[np.int64], sources: NDArray[np.str_], rule: ScreeningRule
) -> Thresholds:
    """Return the thresholds that follow the rule.

    The referable threshold is the highest at which every source reaches the sensitivity; a source that cannot reach it
    at the specificity asks for the lowest threshold with that specificity. No source falls below the specificity. The
    other thresholds then have the highest quadratic weighted kappa, averaged over the sources, by coordinate ascent;
    those of worse grades are not below the referable one, so that they do not refer more images.

    probabilities: (N, 5), cumulative. grades: reference grades, int (N,), of images that were not trained on. sources:
    str (N,). Raises UsageError if a source lacks referable or non-referable images.
    """
    members = [sources == source for source in np.unique(sources)]
    chosen = list(DEFAULT_THRESHOLDS)
    referable = _choose_referable(probabilities[:, REFERABLE_FROM], grades >= REFERABLE_FROM, members, rule)
    chosen[REFERABLE_FROM] = referable
    others = [grade for grade in Grade if grade not in (Grade.NO_DR, REFERABLE_FROM)]
    for _ in range(_PASSES):
        for output in others:
            allowed = CANDIDATES[referable <= CANDIDATES] if output > REFERABLE_FROM else CANDIDATES
            kappas = [
                _mean_kappa(probabilities, grades, members, [*chosen[:output], candidate, *chosen[output + 1 :]])
                for candidate in allowed.tolist()
            ]
            chosen[output] = float(allowed[int(np.argmax(kappas))])
    none, mild, moderate, severe, proliferative = chosen
    return none, mild, moderate, severe, proliferative


def _choose_referable(
    probabilities: NDArray[np.floating],
    referable: NDArray[np.bool_],
    members: list[NDArray[np.bool_]],
    rule: ScreeningRule,
) -> float:
    wanted, lowest = [], []
    for member in members:
        positive, negative = probabilities[member & referable], probabilities[member & ~referable]
        if not len(positive) or not len(negative):
            raise UsageError("a source has only referable or only non-referable images; both are needed")
        sensitivity = (positive[:, None] > CANDIDATES).mean(axis=0)
        specificity = (negative[:, None] <= CANDIDATES).mean(axis=0)
        floor = _first(CANDIDATES[specificity >= rule.specificity])
        enough = CANDIDATES[sensitivity >= rule.sensitivity]
        lowest.append(floor)
        wanted.append(max(float(enough[-1]) if len(enough) else 0.0, floor))
    return max(min(wanted), *lowest)


def _first(candidates: NDArray[np.float64]) -> float:
    return float(candidates[0]) if len(candidates) else float(CANDIDATES[-1])


def _mean_kappa(
    probabilities: NDArray[np.floating],
    grades: NDArray[np.int64],
    members: list[NDArray[np.bool_]],
    thresholds: list[float],
) -> float:
    found = find_highest_passed(np.asarray(probabilities, np.float32), thresholds)
    kappas = [quadratic_weighted_kappa(confusion_matrix(grades[member], found[member])) for member in members]
    return float(np.nanmean(kappas))
