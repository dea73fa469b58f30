"""Choose an operating point on labelled images: a temperature and thresholds for a target sensitivity or specificity.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) calibrates the probabilities without changing the ranking of the
images; the thresholds decide which images are positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.model_selection import GroupKFold

from worker.core.errors import UsageError
from worker.core.vocabulary import Grade
from worker.evaluation.labelled import NOT_GRADED, Labelled
from worker.model.ordinal import Thresholds, decode_outputs

MIN_IMAGES = 50
"""Least number of graded images with a reference grade."""
FOLDS = 5
TEMPERATURE_RANGE = (0.05, 20.0)
"""Bounds of the search for a temperature."""

Array = NDArray[np.float64]
_MARGIN = 1e-7
"""Probabilities are clipped by this margin: a float32 sigmoid is 1 from a logit of about 17."""
_OUTPUTS = np.arange(1, len(Grade))
"""Outputs that are fitted; output 0 is true of every image."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target sensitivity or specificity, in (0, 1), for one or more cuts "this grade or worse"."""

    metric: Literal["sensitivity", "specificity"]
    value: float
    cuts: tuple[Grade, ...]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Temperature relative to that of the model, and one threshold per cumulative output."""

    temperature: float
    thresholds: Thresholds


def choose_operating_point(images: Labelled, thresholds: Thresholds, target: Target) -> OperatingPoint:
    """Fit the temperature, then set the threshold of each target cut; decisions of other cuts are unchanged.

    images: graded ones. thresholds: those in use. Cuts are set from the worst grade down, because an image that is
    positive at a worse cut is positive at all milder ones. Raises UsageError for fewer than MIN_IMAGES images, for
    outputs without a best temperature, and for a target that the thresholds of worse cuts make unreachable.
    """
    if len(images.ids) < MIN_IMAGES:
        raise UsageError(f"{len(images.ids)} graded images have a reference grade, {MIN_IMAGES} are needed")
    temperature = fit_temperature(images.probabilities, images.reference)
    scaled = rescale(images.probabilities, temperature)
    chosen = rescale(np.array(thresholds), temperature)
    for cut in sorted(target.cuts, reverse=True):
        worse: NDArray[np.bool_] = np.any(scaled[:, cut + 1 :] > chosen[cut + 1 :], axis=1)
        chosen[cut] = choose_threshold(images.reference >= cut, scaled[:, cut], worse, target, cut)
    first, second, third, fourth, fifth = chosen.tolist()
    return OperatingPoint(temperature, (first, second, third, fourth, fifth))


def fit_temperature(probabilities: Array, reference: NDArray[np.int64]) -> float:
    """Return the temperature with the least binary cross-entropy of outputs 1 to 4. probabilities: (N, 5)."""
    low, high = np.log(TEMPERATURE_RANGE)
    sides = np.where(reference[:, None] >= _OUTPUTS, -1, 1)
    wrong = sides * _logits(probabilities[:, _OUTPUTS])
    found = minimize_scalar(
        lambda log: float(np.logaddexp(0, wrong / np.exp(log)).mean()), bounds=(low, high), method="bounded"
    )
    if not low + 0.01 < found.x < high - 0.01:
        raise UsageError(f"no temperature between {TEMPERATURE_RANGE[0]:g} and {TEMPERATURE_RANGE[1]:g} fits best")
    return float(np.exp(found.x))


def cross_entropy(probabilities: Array, reference: NDArray[np.int64]) -> float:
    """Return the mean binary cross-entropy of outputs 1 to 4, in nats."""
    truth = reference[:, None] >= _OUTPUTS
    clipped = np.clip(probabilities[:, _OUTPUTS], _MARGIN, 1 - _MARGIN)
    return float(-np.log(np.where(truth, clipped, 1 - clipped)).mean())


def rescale(probabilities: Array, temperature: float) -> Array:
    """Return the probabilities with their logits divided by a temperature."""
    scaled: Array = expit(_logits(probabilities) / temperature)
    return scaled


def choose_threshold(
    truth: NDArray[np.bool_], probabilities: Array, called: NDArray[np.bool_], target: Target, cut: Grade
) -> float:
    """Return the threshold of one cut that reaches the target at the least cost of the opposite metric.

    truth: bool (N,), whether each image has this grade or worse. called: bool (N,), images that are positive by worse
    cuts. The threshold is midway between two observed probabilities, so that rounding changes no decision. Raises
    UsageError if the target cannot be reached.
    """
    for_sensitivity = target.metric == "sensitivity"
    side = truth if for_sensitivity else ~truth
    count, already_called = int(side.sum()), int((side & called).sum())
    if not count:
        missing = f"{cut:d} or worse" if for_sensitivity else f"below {cut:d}"
        raise UsageError(f"no reference grade is {missing}")
    share = target.value if for_sensitivity else 1 - target.value
    # Images of that side that must be positive here (sensitivity), or may be (specificity).
    needed = int(np.ceil(share * count - 1e-9) if for_sensitivity else np.floor(share * count + 1e-9)) - already_called
    if needed < for_sensitivity:
        reached = already_called / count if for_sensitivity else 1 - already_called / count
        raise UsageError(
            f"{target.metric} {target.value:g} of grade {cut:d} or worse cannot be reached: the thresholds of worse"
            f" grades alone give {reached:.3f}"
        )
    ranked = np.sort(probabilities[side & ~called])[::-1]
    levels = np.unique(np.concatenate([[0.0, 1.0], probabilities[~called]]))
    if for_sensitivity:
        last_called = np.searchsorted(levels, ranked[needed - 1])
        return float(levels[last_called - 1 : last_called + 1].mean())
    first_passed = np.searchsorted(levels, ranked[needed] if needed < len(ranked) else 0.0)
    return float(levels[first_passed : first_passed + 2].mean())


def apply_operating_point(images: Labelled, point: OperatingPoint) -> Labelled:
    """Return the graded images with the grades of another operating point."""
    scaled = rescale(images.probabilities, point.temperature)
    grades = [decode_outputs(row, point.thresholds).grade for row in scaled.astype(np.float32)]
    return replace(images, probabilities=scaled, grades=np.array(grades, np.int64))


def cross_fit(images: Labelled, thresholds: Thresholds, target: Target) -> Labelled:
    """Return the images graded by cross-validation: each fold at the point chosen on the other folds.

    Images of one patient stay in one fold. Raises UsageError as `choose_operating_point`, and for fewer than FOLDS
    patients.
    """
    clusters = images.clusters
    if len(np.unique(clusters)) < FOLDS:
        raise UsageError(f"{len(np.unique(clusters))} patients are too few, {FOLDS} are needed")
    probabilities, grades = images.probabilities.copy(), np.full(len(images.ids), NOT_GRADED)
    for rest, fold in GroupKFold(FOLDS, shuffle=True, random_state=0).split(images.ids, groups=clusters):
        point = choose_operating_point(_select(images, rest), thresholds, target)
        applied = apply_operating_point(_select(images, fold), point)
        probabilities[fold], grades[fold] = applied.probabilities, applied.grades
    return replace(images, probabilities=probabilities, grades=grades)


def _select(images: Labelled, indices: Sequence[int] | NDArray[np.int64]) -> Labelled:
    chosen = np.zeros(len(images.ids), bool)
    chosen[indices] = True
    return images.select(chosen)


def _logits(probabilities: Array) -> Array:
    logits: Array = logit(np.clip(probabilities.astype(np.float64), _MARGIN, 1 - _MARGIN))
    return logits
