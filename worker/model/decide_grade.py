"""Decode a prediction into a grade."""

from dataclasses import replace

from worker.core.predictions import GradeDecision, Prediction
from worker.core.vocabulary import Flag
from worker.model.bundle.ensemble import Model
from worker.model.ordinal import decode_outputs


def decide_grade(prediction: Prediction, model: Model) -> GradeDecision:
    """Return the grade, flagged if the saliency is zero everywhere although the explained output is passed."""
    decision = decode_outputs(prediction.probabilities, model.thresholds)
    lowest, _ = model.explained_outputs
    if prediction.saliency.any() or decision.grade < lowest:
        return decision
    return replace(decision, flags=(*decision.flags, Flag.NO_EVIDENCE))
