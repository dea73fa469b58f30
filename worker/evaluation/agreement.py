"""Figures of agreement between grades and reference grades; each image counts with a weight.

Sensitivity and recall are the same word for a cut and for a grade; all are fractions in [0, 1]. A figure that cannot be
had from these images, such as the recall of a grade that none of them has, is NaN.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import auc, roc_curve

from worker.core.vocabulary import REFERABLE_FROM, Grade
from worker.evaluation.labelled import NOT_GRADED, Labelled

CUTS = {"referable": REFERABLE_FROM, "vision_threatening": Grade.SEVERE}
"""What a programme decides on: this grade or worse."""
SPECIFICITIES = (0.90, 0.95)
CALIBRATION_BINS = 10

Weights = NDArray[np.float64]


def compute_metrics(images: Labelled, weights: Weights) -> dict[str, float]:
    """All figures by name. images: judged ones, N; weights: (N,), how often each counts."""
    graded = images.grades != NOT_GRADED
    figures = {"gradable_fraction": _share(weights[graded], weights)}
    figures |= _grade_metrics(images.select(graded), weights[graded])
    for name, cut in CUTS.items():
        figures |= {f"{name}_{key}": value for key, value in _cut_metrics(images, graded, weights, cut).items()}
    return figures


def count_confusion(images: Labelled, weights: Weights | None = None) -> NDArray[np.float64]:
    """(5, 5): reference grade by grade, of graded images."""
    return confusion_matrix(images.reference, images.grades, weights)


def confusion_matrix(
    reference: NDArray[np.int64], grades: NDArray[np.int64], weights: Weights | None = None
) -> NDArray[np.float64]:
    """The same of bare grades, each (N,)."""
    size = len(Grade)
    counts = np.bincount(reference * size + grades, weights, size * size)
    return counts.reshape(size, size).astype(np.float64)


def quadratic_weighted_kappa(matrix: NDArray[np.float64]) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968); scikit-learn's takes a hundred times as long."""
    apart = np.subtract.outer(list(Grade), list(Grade)).astype(float) ** 2
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / max(matrix.sum(), 1)
    expected = float((apart * by_chance).sum())
    return 1 - float((apart * matrix).sum()) / expected if expected else float("nan")


def reliability_bins(truth: NDArray[np.bool_], chance: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """(bins, 3): mean predicted chance, observed fraction and weight of each bin of equal width; NaN where empty."""
    bins = np.minimum((chance * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total = np.bincount(bins, weights, CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(bins, weights * chance, CALIBRATION_BINS) / total
        observed = np.bincount(bins, weights * truth, CALIBRATION_BINS) / total
    return np.column_stack([predicted, observed, total])


def roc_points(truth: NDArray[np.bool_], chance: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """(points, 2): 1 - specificity and sensitivity, both rising from 0 to 1; no point where no image counts."""
    counts = weights > 0
    if not counts.any():
        return np.empty((0, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        away, found, _ = roc_curve(truth[counts], chance[counts], sample_weight=weights[counts])
    return np.column_stack([away, found])


def _grade_metrics(graded: Labelled, weights: Weights) -> dict[str, float]:
    matrix = count_confusion(graded, weights)
    right = np.diag(matrix)
    figures = {
        "accuracy": _share(right, matrix),
        "quadratic_weighted_kappa": quadratic_weighted_kappa(matrix),
    }
    for grade in Grade:
        figures[f"recall_grade_{grade:d}"] = _share(right[grade], matrix[grade])
        figures[f"precision_grade_{grade:d}"] = _share(right[grade], matrix[:, grade])
    return figures


def _cut_metrics(images: Labelled, graded: NDArray[np.bool_], weights: Weights, cut: Grade) -> dict[str, float]:
    truth, called = images.reference >= cut, images.grades >= cut
    chance = images.probabilities[:, cut]
    curve = roc_points(truth[graded], chance[graded], weights[graded])
    bins = reliability_bins(truth[graded], chance[graded], weights[graded])
    sick, well = weights * (truth & graded), weights * (~truth & graded)
    # A programme photographs an ungradable eye again or sends it to a human: it is not passed as healthy.
    passed = graded & ~called
    figures = {
        "auc": float(auc(*curve.T)) if len(curve) > 1 else float("nan"),
        "sensitivity": _share(sick[called], sick),
        "specificity": _share(well[~called], well),
        "sensitivity_ungradable_referred": _share(weights[truth & ~passed], weights[truth]),
        "specificity_ungradable_referred": _share(weights[~truth & passed], weights[~truth]),
        "calibration_error": float(np.nansum(np.abs(bins[:, 0] - bins[:, 1]) * bins[:, 2]) / bins[:, 2].sum())
        if bins[:, 2].sum()
        else float("nan"),
    }
    for specificity in SPECIFICITIES:
        allowed = curve[:, 0] <= 1 - specificity + 1e-12
        best = curve[allowed, 1].max() if allowed.any() else np.nan
        figures[f"sensitivity_at_specificity_{specificity:.0%}".rstrip("%")] = float(best)
    return figures


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    total = float(np.sum(whole))
    return float(np.sum(part)) / total if total else float("nan")
