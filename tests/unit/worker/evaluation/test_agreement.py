"""Every metric equals arithmetic on paper."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.agreement import compute_metrics, count_confusion, reliability_bins, roc_points

ONES = np.ones


def test_perfect_agreement_gives_ones() -> None:
    figures = compute_metrics(labelled([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0.0, 0.1, 0.7, 0.8, 0.9]), ONES(5))
    exact = {name: value for name, value in figures.items() if "calibration" not in name}
    assert set(exact.values()) == {1.0}


def test_kappa_and_accuracy_of_a_small_table() -> None:
    # Observed: 1 + 4. Expected by chance: the squared distances of the 16 pairs sum to 56, times 4 / 16.
    figures = compute_metrics(labelled([0, 0, 2, 4], [0, 1, 2, 2]), ONES(4))
    assert figures["quadratic_weighted_kappa"] == pytest.approx(1 - 5 / 14)
    assert figures["accuracy"] == 0.5


def test_recall_is_by_reference_and_precision_by_grade() -> None:
    figures = compute_metrics(labelled([3, 3, 3, 2], [3, 2, 4, 3]), ONES(4))
    assert figures["recall_grade_3"] == pytest.approx(1 / 3)
    assert figures["precision_grade_3"] == 0.5
    assert figures["recall_grade_2"] == 0.0
    assert np.isnan(figures["recall_grade_0"])
    assert np.isnan(figures["precision_grade_0"])


def test_sensitivity_and_specificity_are_computed_from_the_grades() -> None:
    figures = compute_metrics(labelled([0, 1, 1, 2, 3, 4, 4], [0, 2, 1, 2, 1, 4, 3], [0.9] * 7), ONES(7))
    assert figures["referable_sensitivity"] == 0.75
    assert figures["referable_specificity"] == pytest.approx(2 / 3)
    assert figures["vision_threatening_sensitivity"] == pytest.approx(2 / 3)
    assert figures["vision_threatening_specificity"] == 1.0


def test_ungradable_images_count_as_referred_for_the_programme_only() -> None:
    figures = compute_metrics(labelled([2, 2, 0, 0], [2, None, 0, None], [0.9, 0, 0.1, 0]), ONES(4))
    assert figures["gradable_fraction"] == 0.5
    assert figures["referable_sensitivity"] == figures["referable_specificity"] == 1.0
    assert figures["referable_sensitivity_ungradable_referred"] == 1.0
    assert figures["referable_specificity_ungradable_referred"] == 0.5


def test_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    # Positive: 0.9, 0.4; negative: 0.6, 0.4, 0.1. Pairs in order: 3 and 1, a tie counts half: 4.5 of 6.
    figures = compute_metrics(labelled([2, 2, 0, 0, 1], [2, 0, 2, 0, 0], [0.9, 0.4, 0.6, 0.4, 0.1]), ONES(5))
    assert figures["referable_auc"] == pytest.approx(4.5 / 6)


def test_sensitivity_at_a_specificity_uses_the_best_threshold() -> None:
    negative = np.linspace(0, 0.5, 20)  # at 0.95 one may be a false positive, at 0.90 also the next one at 0.474
    figures = compute_metrics(labelled([0] * 20 + [2] * 4, [0] * 24, [*negative, 0.51, 0.49, 0.45, 0.3]), ONES(24))
    assert figures["referable_sensitivity_at_specificity_95"] == 0.5
    assert figures["referable_sensitivity_at_specificity_90"] == 0.75


def test_kappa_and_auc_equal_those_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    reference, grades, chances = random.integers(0, 5, 300), random.integers(0, 5, 300), random.random(300).round(2)
    weights = random.integers(0, 4, 300).astype(float)
    figures = compute_metrics(labelled(reference.tolist(), grades.tolist(), chances.tolist()), weights)
    kappa = cohen_kappa_score(reference, grades, weights="quadratic", sample_weight=weights)
    assert figures["quadratic_weighted_kappa"] == pytest.approx(kappa)
    for name, cut in (("referable", 2), ("vision_threatening", 3)):
        area = roc_auc_score(reference >= cut, chances, sample_weight=weights)
        assert figures[f"{name}_auc"] == pytest.approx(area)


def test_calibration_error_is_the_weighted_mean_of_the_gaps() -> None:
    # Bin 0.1-0.2: predicted 0.1, observed 0 of 2; bin 0.9-1: predicted 1.0, observed 1 of 2: (2 x 0.1 + 2 x 0.5) / 4.
    images = labelled([0, 0, 2, 0], [0, 0, 2, 2], [0.1, 0.1, 1.0, 1.0])
    assert compute_metrics(images, ONES(4))["referable_calibration_error"] == pytest.approx(0.3)
    bins = reliability_bins(images.reference >= 2, images.probabilities[:, 2], ONES(4))
    assert bins[9].tolist() == [1.0, 0.5, 2.0]
    assert np.isnan(bins[5, :2]).all()
    assert bins[5, 2] == 0


def test_weight_counts_like_repeated_images() -> None:
    few = labelled([0, 2, 3, 4], [0, 2, 2, None], [0.1, 0.6, 0.7, 0])
    many = labelled([0, 0, 0, 2, 4, 4], [0, 0, 0, 2, None, None], [0.1, 0.1, 0.1, 0.6, 0, 0])
    weighted, repeated = compute_metrics(few, np.array([3.0, 1, 0, 2])), compute_metrics(many, ONES(6))
    assert weighted.keys() == repeated.keys()
    for name, value in repeated.items():
        assert weighted[name] == pytest.approx(value, nan_ok=True), name


def test_confusion_matrix_has_reference_grades_in_rows() -> None:
    matrix = count_confusion(labelled([3, 3, 0], [1, 3, 0]))
    assert matrix[3].tolist() == [0, 1, 0, 1, 0]
    assert matrix.sum() == 3


def test_auc_is_undefined_without_positive_images() -> None:
    figures = compute_metrics(labelled([0, 1], [0, 1], [0.2, 0.8]), ONES(2))
    assert np.isnan(figures["referable_auc"])
    assert np.isnan(figures["referable_sensitivity"])
    assert figures["referable_specificity"] == 1.0


def test_roc_curve_rises_from_0_to_1() -> None:
    curve = roc_points(np.array([True, False]), np.array([0.8, 0.3]), ONES(2))
    assert curve.tolist() == [[0, 0], [0, 1], [1, 1]]
