"""Decode a prediction into a grade."""

from dataclasses import replace

from worker.core.predictions import GradeDecision, Prediction
from worker.core.vocabulary import Flag
from worker.model.bundle.ensemble import Model
from worker.model.ordinal import decode_outputs


def decide_grade(prediction: Prediction, model: Model) -> GradeDecision:
    """Return the grade with its flags.

    NO_EVIDENCE: the saliency is zero everywhere although the explained output is passed. UNFAMILIAR: the unfamiliarity
    is above 1.
    """
    decision = decode_outputs(prediction.probabilities, model.thresholds)
    lowest, _ = model.explained_outputs
    flags = list(decision.flags)
    if not prediction.saliency.any() and decision.grade >= lowest:
        flags.append(Flag.NO_EVIDENCE)
    if prediction.unfamiliarity is not None and prediction.unfamiliarity > 1:
        flags.append(Flag.UNFAMILIAR)
    return replace(decision, flags=tuple(flags))
