"""Decide the grade that a prediction stands for."""

from collections.abc import Sequence
from dataclasses import replace

from worker.contract.vocabulary import Flag
from worker.items import Decision, Prediction
from worker.model.ordinal import decode_outputs


def decide_grade(prediction: Prediction, thresholds: Sequence[float]) -> Decision:
    """The decoded outputs, flagged where the saliency is zero everywhere. thresholds: one per cumulative output."""
    decision = decode_outputs(prediction.probabilities, thresholds)
    if prediction.saliency.any():
        return decision
    return replace(decision, flags=(*decision.flags, Flag.NO_EVIDENCE))
