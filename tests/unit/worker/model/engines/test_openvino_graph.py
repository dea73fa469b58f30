"""Saliency of the OpenVINO engine for extreme logits, and without positive evidence."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, random_weights
from worker.core.predictions import Prediction
from worker.model.engines.openvino_engine import OpenVinoEngine

SEPARATE = np.resize(np.eye(5, dtype=np.float32), (1024, 5)) * np.float32(1e-3)
"""Output k uses every fifth channel from k on, so the outputs' maps differ."""
PICTURE = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def predict(bias: list[float], sign: int) -> Prediction:
    """A network whose head has weights of one sign: features are never negative, so all change the logits one way."""
    weights = random_weights()
    weights["head/kernel"] = sign * np.abs(weights["head/kernel"])
    weights["head/bias"] = np.array(bias, np.float32)
    return OpenVinoEngine(make_bundle(weights), "f32").predict([PICTURE])[0]


def test_saturated_output_still_has_a_map() -> None:
    prediction = predict([0, 0, 0, 0, 200], 1)
    assert prediction.probabilities[4] == 1
    assert prediction.saliency.max() == pytest.approx(1)


def test_map_without_positive_evidence_is_zero_everywhere() -> None:
    np.testing.assert_array_equal(predict([0] * 5, -1).saliency, np.zeros((3, 3)))


@pytest.mark.parametrize("within", [(0, 4), (1, 2), (3, 3)])
@pytest.mark.parametrize("grade", range(5))
def test_highest_output_passed_is_explained_within_the_range(grade: int, within: tuple[int, int]) -> None:
    weights = random_weights()
    weights["head/kernel"] = SEPARATE
    weights["head/bias"] = np.where(np.arange(5) <= grade, 9, -9).astype(np.float32)
    explained = OpenVinoEngine(make_bundle(weights, explained_outputs=within), "f32").predict([PICTURE])[0].saliency
    assert explained.max() == pytest.approx(1)
    np.testing.assert_array_equal(explained, explain_alone(min(max(grade, within[0]), within[1])))


@cache
def explain_alone(output: int) -> NDArray[np.float32]:
    """Saliency of a network all of whose outputs have the weights of this one."""
    weights = random_weights()
    weights["head/kernel"] = np.repeat(SEPARATE[:, [output]], 5, axis=1)
    weights["head/bias"] = np.full(5, 9, np.float32)
    return OpenVinoEngine(make_bundle(weights), "f32").predict([PICTURE])[0].saliency
