"""Temperatures and thresholds equal arithmetic on paper and those that generated the grades."""

import numpy as np
import pytest
from scipy.special import expit

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.core.errors import UsageError
from worker.core.vocabulary import Grade
from worker.evaluation.labelled import Labelled
from worker.evaluation.operating_point import (
    OperatingPoint,
    Target,
    apply_operating_point,
    choose_operating_point,
    choose_threshold,
    cross_entropy,
    cross_fit,
    fit_temperature,
    rescale,
)

HALVES = (0.5, 0.5, 0.5, 0.5, 0.5)


def target(metric: str, value: float, *cuts: int) -> Target:
    return Target(metric, value, tuple(Grade(cut) for cut in cuts or (2,)))  # type: ignore[arg-type]


def draw_images(count: int, overconfidence: float, seed: int = 0) -> Labelled:
    """Draw grades from true probabilities; the model's logits are the true ones times `overconfidence`."""
    random = np.random.default_rng(seed)
    severity = random.normal(0, 2.5, count)
    logits = severity[:, None] - np.array([-9.0, -0.5, 0.5, 2.5, 3.5])
    reference = (random.random(count)[:, None] < expit(logits[:, 1:])).sum(axis=1)
    images = labelled(reference.tolist(), [0] * count)
    shown = Labelled(
        images.ids,
        images.eyes,
        images.patients,
        images.statuses,
        images.reference,
        images.grades,
        expit(logits * overconfidence),
    )
    return apply_operating_point(shown, OperatingPoint(1.0, HALVES))


def test_temperature_undoes_the_overconfidence_of_the_model() -> None:
    images = draw_images(4000, overconfidence=3)
    assert fit_temperature(images.probabilities, images.reference) == pytest.approx(3, rel=0.06)
    calibrated = rescale(images.probabilities, 3)
    assert cross_entropy(calibrated, images.reference) < cross_entropy(images.probabilities, images.reference)


def test_rescaling_divides_the_logit() -> None:
    np.testing.assert_allclose(rescale(expit(np.array([[-4.0, 0, 2, 6]])), 2), expit([[-2.0, 0, 1, 3]]))


def test_threshold_for_a_sensitivity_is_the_highest_that_reaches_it() -> None:
    # Positive 0.9, 0.6, 0.4, 0.2; the target is three of four: the threshold is between 0.4 and 0.3, the next below.
    truth = np.array([True, True, True, True, False, False])
    chances = np.array([0.9, 0.6, 0.4, 0.2, 0.3, 0.7])
    called = np.zeros(6, bool)
    assert choose_threshold(truth, chances, called, target("sensitivity", 0.75), Grade.MODERATE) == pytest.approx(0.35)
    assert choose_threshold(truth, chances, called, target("sensitivity", 0.76), Grade.MODERATE) == pytest.approx(0.1)


def test_threshold_for_a_specificity_is_the_lowest_that_reaches_it() -> None:
    # Negative 0.7, 0.3, 0.2, 0.1; one of four may be positive: not the one at 0.3, whose upper neighbour is 0.4.
    truth = np.array([True, True, False, False, False, False])
    chances = np.array([0.9, 0.4, 0.7, 0.3, 0.2, 0.1])
    called = np.zeros(6, bool)
    assert choose_threshold(truth, chances, called, target("specificity", 0.75), Grade.MODERATE) == pytest.approx(0.35)
    assert choose_threshold(truth, chances, called, target("specificity", 0.9), Grade.MODERATE) == pytest.approx(0.8)


def test_images_positive_at_a_worse_cut_count_as_positive() -> None:
    truth = np.array([True, True, True, False])
    chances = np.array([0.1, 0.6, 0.4, 0.5])
    called = np.array([True, False, False, False])
    # The target is two of three and one is already positive: the one at 0.6 is enough.
    found = choose_threshold(truth, chances, called, target("sensitivity", 0.6), Grade.MODERATE)
    assert found == pytest.approx(0.55)
    with pytest.raises(UsageError, match=r"sensitivity 0\.3 of grade 2 or worse cannot be reached: .* give 0\.333"):
        choose_threshold(truth, chances, called, target("sensitivity", 0.3), Grade.MODERATE)
    with pytest.raises(UsageError, match=r"specificity 0\.9 of grade 2 or worse cannot be reached: .* give 0\.500"):
        choose_threshold(
            np.array([True, False, False]),
            np.array([0.9, 0.5, 0.1]),
            np.array([False, True, False]),
            target("specificity", 0.9),
            Grade.MODERATE,
        )


@pytest.mark.parametrize(("metric", "value"), [("sensitivity", 0.9), ("specificity", 0.8)])
def test_point_reaches_the_target_and_leaves_other_decisions(metric: str, value: float) -> None:
    images = draw_images(600, overconfidence=2)
    point = choose_operating_point(images, HALVES, target(metric, value, 2, 3))
    after = apply_operating_point(images, point)
    for cut in (2, 3):
        side = images.reference >= cut if metric == "sensitivity" else images.reference < cut
        hit = (after.grades >= cut) == (metric == "sensitivity")
        # As close as one image allows.
        assert value <= hit[side].mean() < value + 1.5 / side.sum()
    before, now = images.probabilities[:, 4] > 0.5, after.probabilities[:, 4] > point.thresholds[4]
    assert np.array_equal(before, now)


def test_cross_validated_grades_come_from_points_chosen_without_the_image() -> None:
    images = draw_images(300, overconfidence=2)
    held = cross_fit(images, HALVES, target("sensitivity", 0.9))
    positive = images.reference >= 2
    assert (held.grades[positive] >= 2).mean() == pytest.approx(0.9, abs=0.05)
    whole = apply_operating_point(images, choose_operating_point(images, HALVES, target("sensitivity", 0.9)))
    assert not np.array_equal(held.probabilities, whole.probabilities)
    assert (held.grades >= 0).all()


def test_too_few_images_are_counted() -> None:
    with pytest.raises(UsageError, match="49 graded images have a reference grade, 50 are needed"):
        choose_operating_point(draw_images(49, 1), HALVES, target("sensitivity", 0.9))


def test_grades_on_one_side_of_the_cut_set_no_threshold() -> None:
    with pytest.raises(UsageError, match="no reference grade is 2 or worse"):
        choose_threshold(np.zeros(3, bool), np.ones(3) / 2, np.zeros(3, bool), target("sensitivity", 0.9), Grade(2))
    with pytest.raises(UsageError, match="no reference grade is below 2"):
        choose_threshold(np.ones(3, bool), np.ones(3) / 2, np.zeros(3, bool), target("specificity", 0.9), Grade(2))


def test_perfect_outputs_have_no_temperature() -> None:
    reference = [0, 4] * 40
    images = labelled(reference, reference, [0.001 if grade == 0 else 0.999 for grade in reference])
    with pytest.raises(UsageError, match="no temperature between"):
        choose_operating_point(images, HALVES, target("sensitivity", 0.9))
