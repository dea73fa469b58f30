import numpy as np
import pytest

from tests.unit.worker.model.networks import make_bundle
from worker.core.predictions import Prediction
from worker.core.vocabulary import Flag, Grade
from worker.model.bundle.bundle import Bundle
from worker.model.decide_grade import decide_grade
from worker.model.ordinal import ALL_OUTPUTS

Thresholds = tuple[float, float, float, float, float]
HALF = (0.5, 0.5, 0.5, 0.5, 0.5)


def model(thresholds: Thresholds = HALF, explained_outputs: tuple[int, int] = ALL_OUTPUTS) -> Bundle:
    return make_bundle({}, thresholds=thresholds, explained_outputs=explained_outputs)


def predict(outputs: list[float], *, evidence: float) -> Prediction:
    saliency = np.zeros((7, 7), np.float32)
    saliency[3, 3] = evidence
    return Prediction(np.array(outputs, np.float32), saliency)


def test_decision_has_grade_referable_and_class_probabilities() -> None:
    decision = decide_grade(predict([1, 0.75, 0.625, 0.25, 0], evidence=1), model())
    assert decision.grade is Grade.MODERATE
    assert decision.referable is True
    np.testing.assert_array_equal(decision.class_probabilities, np.array([0.25, 0.125, 0.375, 0.25, 0], np.float32))
    assert decision.flags == ()


def test_mild_is_not_referable() -> None:
    assert decide_grade(predict([1, 0.75, 0.5, 0, 0], evidence=1), model()).referable is False


def test_thresholds_decide_the_grade() -> None:
    prediction = predict([1, 0.75, 0.5, 0.25, 0], evidence=1)
    assert decide_grade(prediction, model((0.5, 0.5, 0.4, 0.5, 0.5))).grade is Grade.MODERATE
    assert decide_grade(prediction, model((0.5, 0.8, 0.5, 0.5, 0.5))).grade is Grade.NO_DR


@pytest.mark.parametrize(
    ("outputs", "flags"),
    [
        ([1, 0.75, 0.5, 0.25, 0], (Flag.NO_EVIDENCE,)),
        ([0.25, 0.25, 0.25, 0.25, 0.25], (Flag.NO_OUTPUT_PASSED, Flag.NO_EVIDENCE)),
        ([0.25, 0.125, 0.25, 0, 0], (Flag.NO_OUTPUT_PASSED, Flag.NOT_MONOTONE, Flag.NO_EVIDENCE)),
    ],
)
def test_map_of_zeros_is_flagged_after_the_flags_of_the_outputs(outputs: list[float], flags: tuple[Flag, ...]) -> None:
    assert decide_grade(predict(outputs, evidence=0), model()).flags == flags


def test_map_of_zeros_is_not_flagged_if_the_explained_output_is_not_passed() -> None:
    healthy, mild = predict([1, 0.25, 0, 0, 0], evidence=0), predict([1, 0.75, 0, 0, 0], evidence=0)
    assert decide_grade(healthy, model(explained_outputs=(1, 2))).flags == ()
    assert decide_grade(mild, model(explained_outputs=(1, 2))).flags == (Flag.NO_EVIDENCE,)
