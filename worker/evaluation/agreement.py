"""Metrics of agreement between grades and reference grades, for weighted images.

A cut is the decision "this grade or worse". All rates are fractions in [0, 1]. A metric that is undefined for these
images, such as the recall of a grade that does not occur, is NaN.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

from worker.core.vocabulary import REFERABLE_FROM, Grade
from worker.evaluation.labelled import NOT_GRADED, Labelled

CUTS = {"referable": REFERABLE_FROM, "vision_threatening": Grade.SEVERE}
"""Grade from which an image is positive, by decision of a screening programme."""
SPECIFICITIES = (0.90, 0.95)
CALIBRATION_BINS = 10

Weights = NDArray[np.float64]


def compute_metrics(images: Labelled, weights: Weights) -> dict[str, float]:
    """Return all metrics by name. images: N graded or ungradable images. weights: (N,), number of times each counts."""
    graded = images.grades != NOT_GRADED
    metrics = {"gradable_fraction": _ratio(weights[graded], weights)}
    metrics |= _grade_metrics(images.select(graded), weights[graded])
    for name, cut in CUTS.items():
        metrics |= {f"{name}_{key}": value for key, value in _cut_metrics(images, graded, weights, cut).items()}
    return metrics


def count_confusion(images: Labelled, weights: Weights | None = None) -> NDArray[np.float64]:
    """Return the confusion matrix of graded images, see `confusion_matrix`."""
    return confusion_matrix(images.reference, images.grades, weights)


def confusion_matrix(
    reference: NDArray[np.int64], grades: NDArray[np.int64], weights: Weights | None = None
) -> NDArray[np.float64]:
    """Return counts or sums of weights, (5, 5): rows are reference grades, columns grades. Both arrays: int (N,)."""
    size = len(Grade)
    counts = np.bincount(reference * size + grades, weights, size * size)
    return counts.reshape(size, size).astype(np.float64)


def quadratic_weighted_kappa(matrix: NDArray[np.float64]) -> float:
    """Return Cohen's kappa with quadratic weights, NaN if undefined; a hundred times faster than scikit-learn.

    matrix: (5, 5), see `confusion_matrix`. Source: Cohen 1968.
    """
    distance = np.subtract.outer(list(Grade), list(Grade)).astype(float) ** 2
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / max(matrix.sum(), 1)
    expected = float((distance * by_chance).sum())
    return 1 - float((distance * matrix).sum()) / expected if expected else float("nan")


def reliability_bins(
    truth: NDArray[np.bool_], probability: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Return mean predicted probability, observed fraction and weight of each bin, (CALIBRATION_BINS, 3).

    The bins have equal width. The first two columns of an empty bin are NaN.
    """
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total = np.bincount(bins, weights, CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(bins, weights * probability, CALIBRATION_BINS) / total
        observed = np.bincount(bins, weights * truth, CALIBRATION_BINS) / total
    return np.column_stack([predicted, observed, total])


def roc_points(truth: NDArray[np.bool_], probability: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """Return 1 - specificity and sensitivity, (points, 2), both rising from 0 to 1; no points without images."""
    counts = weights > 0
    if not counts.any():
        return np.empty((0, 2))
    # scikit-learn is slow to import.
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import roc_curve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        false_positive_rate, true_positive_rate, _ = roc_curve(
            truth[counts], probability[counts], sample_weight=weights[counts]
        )
    return np.column_stack([false_positive_rate, true_positive_rate])


def _grade_metrics(graded: Labelled, weights: Weights) -> dict[str, float]:
    matrix = count_confusion(graded, weights)
    correct = np.diag(matrix)
    metrics = {
        "accuracy": _ratio(correct, matrix),
        "quadratic_weighted_kappa": quadratic_weighted_kappa(matrix),
    }
    for grade in Grade:
        metrics[f"recall_grade_{grade:d}"] = _ratio(correct[grade], matrix[grade])
        metrics[f"precision_grade_{grade:d}"] = _ratio(correct[grade], matrix[:, grade])
    return metrics


def _cut_metrics(images: Labelled, graded: NDArray[np.bool_], weights: Weights, cut: Grade) -> dict[str, float]:
    # scikit-learn is slow to import.
    from sklearn.metrics import auc

    truth, called = images.reference >= cut, images.grades >= cut
    probability = images.probabilities[:, cut]
    curve = roc_points(truth[graded], probability[graded], weights[graded])
    bins = reliability_bins(truth[graded], probability[graded], weights[graded])
    positive, negative = weights * (truth & graded), weights * (~truth & graded)
    # An ungradable eye is photographed again or seen by a human, so it counts as positive for the programme.
    passed = graded & ~called
    metrics = {
        "auc": float(auc(*curve.T)) if len(curve) > 1 else float("nan"),
        "sensitivity": _ratio(positive[called], positive),
        "specificity": _ratio(negative[~called], negative),
        "sensitivity_ungradable_referred": _ratio(weights[truth & ~passed], weights[truth]),
        "specificity_ungradable_referred": _ratio(weights[~truth & passed], weights[~truth]),
        "calibration_error": float(np.nansum(np.abs(bins[:, 0] - bins[:, 1]) * bins[:, 2]) / bins[:, 2].sum())
        if bins[:, 2].sum()
        else float("nan"),
    }
    for specificity in SPECIFICITIES:
        allowed = curve[:, 0] <= 1 - specificity + 1e-12
        best = curve[allowed, 1].max() if allowed.any() else np.nan
        metrics[f"sensitivity_at_specificity_{specificity:.0%}".rstrip("%")] = float(best)
    return metrics


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    total = float(np.sum(whole))
    return float(np.sum(part)) / total if total else float("nan")
