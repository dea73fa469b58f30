"""Choose an operating point on labelled images: a temperature for the outputs, and thresholds for a wanted figure.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) moves no image past another: it changes what a probability
means, and the thresholds decide who is called.
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
"""Graded images with a reference grade; below, a threshold would rest on a handful of eyes."""
FOLDS = 5
TEMPERATURE_RANGE = (0.05, 20.0)

Array = NDArray[np.float64]
_CLOSEST = 1e-7
"""A float32 sigmoid reaches 1 at a logit of about 17; its logarithm has to stay finite."""
_OUTPUTS = np.arange(1, len(Grade))
"""Output 0 is true of every image."""


@dataclass(frozen=True, slots=True)
class Target:
    """A sensitivity or specificity, in (0, 1), for the calls "this grade or worse" of one or more cuts."""

    figure: Literal["sensitivity", "specificity"]
    value: float
    cuts: tuple[Grade, ...]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What the logits are divided by, on top of what the model did so far, and one threshold per cumulative output."""

    temperature: float
    thresholds: Thresholds


def choose_operating_point(images: Labelled, thresholds: Thresholds, wanted: Target) -> OperatingPoint:
    """Fit the temperature, then set the threshold of each wanted cut; the others call the same images as before.

    images: graded ones. thresholds: those in use. Cuts are set from the worst grade down, since an image that is
    called at a worse cut is called at all milder ones, too.
    Raises UsageError for fewer than MIN_IMAGES, outputs that fit the grades at every temperature, or a figure that
    those worse cuts put out of reach.
    """
    if len(images.ids) < MIN_IMAGES:
        raise UsageError(f"{len(images.ids)} graded images have a reference grade, {MIN_IMAGES} are needed")
    temperature = fit_temperature(images.probabilities, images.reference)
    chances = rescale(images.probabilities, temperature)
    chosen = rescale(np.array(thresholds), temperature)
    for cut in sorted(wanted.cuts, reverse=True):
        worse: NDArray[np.bool_] = np.any(chances[:, cut + 1 :] > chosen[cut + 1 :], axis=1)
        chosen[cut] = choose_threshold(images.reference >= cut, chances[:, cut], worse, wanted, cut)
    first, second, third, fourth, fifth = chosen.tolist()
    return OperatingPoint(temperature, (first, second, third, fourth, fifth))


def fit_temperature(probabilities: Array, reference: NDArray[np.int64]) -> float:
    """The temperature with the least binary cross-entropy over outputs 1 to 4; probabilities (N, 5)."""
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
    """Mean over images and outputs 1 to 4, in nats."""
    truth = reference[:, None] >= _OUTPUTS
    chances = np.clip(probabilities[:, _OUTPUTS], _CLOSEST, 1 - _CLOSEST)
    return float(-np.log(np.where(truth, chances, 1 - chances)).mean())


def rescale(probabilities: Array, temperature: float) -> Array:
    """What the sigmoids give when their logits are divided by a temperature."""
    scaled: Array = expit(_logits(probabilities) / temperature)
    return scaled


def choose_threshold(
    truth: NDArray[np.bool_], chances: Array, called: NDArray[np.bool_], wanted: Target, cut: Grade
) -> float:
    """The threshold of one cut that reaches the wanted figure and costs least of its opposite.

    truth: whether each image has this grade or worse. called: those that worse cuts call already. It lies midway
    between two chances that were seen, so that rounding calls nobody. Raises UsageError for a figure out of reach.
    """
    seeks_sick = wanted.figure == "sensitivity"
    side = truth if seeks_sick else ~truth
    count, by_worse = int(side.sum()), int((side & called).sum())
    if not count:
        raise UsageError(f"no reference grade is {'' if seeks_sick else 'below '}{cut:d}{' or worse' * seeks_sick}")
    share = wanted.value if seeks_sick else 1 - wanted.value
    # So many of that side have to be called here, or may be.
    here = int(np.ceil(share * count - 1e-9) if seeks_sick else np.floor(share * count + 1e-9)) - by_worse
    if here < seeks_sick:
        reached = by_worse / count if seeks_sick else 1 - by_worse / count
        raise UsageError(
            f"{wanted.figure} {wanted.value:g} of grade {cut:d} or worse is out of reach: the thresholds of worse"
            f" grades alone give {reached:.3f}"
        )
    ranked = np.sort(chances[side & ~called])[::-1]
    levels = np.unique(np.concatenate([[0.0, 1.0], chances[~called]]))
    if seeks_sick:
        last_called = np.searchsorted(levels, ranked[here - 1])
        return float(levels[last_called - 1 : last_called + 1].mean())
    first_passed = np.searchsorted(levels, ranked[here] if here < len(ranked) else 0.0)
    return float(levels[first_passed : first_passed + 2].mean())


def apply_operating_point(images: Labelled, point: OperatingPoint) -> Labelled:
    """The graded images as the model grades them at another operating point."""
    scaled = rescale(images.probabilities, point.temperature)
    grades = [decode_outputs(row, point.thresholds).grade for row in scaled.astype(np.float32)]
    return replace(images, probabilities=scaled, grades=np.array(grades, np.int64))


def cross_fit(images: Labelled, thresholds: Thresholds, wanted: Target) -> Labelled:
    """Each fifth of the images at the point that the other four chose; one patient's eyes stay together.

    What the point will do to images that had no part in choosing it. Raises UsageError as `choose_operating_point`.
    """
    clusters = images.clusters
    if len(np.unique(clusters)) < FOLDS:
        raise UsageError(f"{len(np.unique(clusters))} patients are too few, {FOLDS} are needed")
    probabilities, grades = images.probabilities.copy(), np.full(len(images.ids), NOT_GRADED)
    for others, held in GroupKFold(FOLDS, shuffle=True, random_state=0).split(images.ids, groups=clusters):
        point = choose_operating_point(_at(images, others), thresholds, wanted)
        applied = apply_operating_point(_at(images, held), point)
        probabilities[held], grades[held] = applied.probabilities, applied.grades
    return replace(images, probabilities=probabilities, grades=grades)


def _at(images: Labelled, places: Sequence[int] | NDArray[np.int64]) -> Labelled:
    chosen = np.zeros(len(images.ids), bool)
    chosen[places] = True
    return images.select(chosen)


def _logits(probabilities: Array) -> Array:
    logits: Array = logit(np.clip(probabilities.astype(np.float64), _CLOSEST, 1 - _CLOSEST))
    return logits
