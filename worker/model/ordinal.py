"""What the five cumulative outputs mean: a grade, and what a map of one of them shows; known without a network."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from worker.core.predictions import GradeDecision
from worker.core.vocabulary import REFERABLE_FROM, Flag, Grade

OUTPUTS = 5
"""Output k is P(grade >= k)."""
ALL_OUTPUTS = (0, OUTPUTS - 1)

Thresholds = tuple[float, float, float, float, float]
"""One for each output; an output is passed when its probability is above its threshold."""
DEFAULT_THRESHOLDS: Thresholds = (0.5, 0.5, 0.5, 0.5, 0.5)

Output = Annotated[int, Field(ge=0, lt=OUTPUTS)]


def _must_rise(outputs: tuple[int, int]) -> tuple[int, int]:
    lowest, highest = outputs
    if lowest > highest:
        raise ValueError(f"output {lowest} is above {highest}")
    return outputs


ExplainedOutputs = Annotated[tuple[Output, Output], AfterValidator(_must_rise)]
"""The lowest and the highest output that a map may explain: the highest passed, brought within them."""


def decode_outputs(probabilities: NDArray[np.float32], thresholds: Sequence[float]) -> GradeDecision:
    """The grade that five cumulative outputs stand for, with flags where they disagree among themselves.

    probabilities: (5,), output k is P(grade >= k). thresholds: one per output, which passes when it is above its own.
    From the top down a passed output passes all below it, so the grade is the highest output passed. When none passes,
    the grade is 0 and flagged; outputs that rise from one to the next are flagged, too.
    """
    passed = np.flatnonzero(probabilities > np.asarray(thresholds, np.float32))
    grade = Grade(int(passed[-1]) if passed.size else 0)
    flags = []
    if not passed.size:
        flags.append(Flag.NO_OUTPUT_PASSED)
    if np.any(np.diff(probabilities) > 0):
        flags.append(Flag.NOT_MONOTONE)
    return GradeDecision(grade, grade >= REFERABLE_FROM, class_probabilities(probabilities), tuple(flags))


def class_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of the grades 0 to 4, float32 (5,), sum 1: the falls from each cumulative output to the next.

    As in the decoding, an output raises all below it to itself, and output 0 counts as 1: every eye has some grade.
    """
    monotone = np.maximum.accumulate(probabilities[::-1].astype(np.float64))[::-1]
    monotone[0] = 1.0
    return -np.diff(monotone, append=0.0).astype(np.float32)


def describe_explained_outputs(outputs: tuple[int, int]) -> str:
    """What the maps of a model show, for people. outputs: the lowest and the highest that it explains."""
    lowest, highest = outputs
    if outputs == ALL_OUTPUTS:
        return "evidence for the model's grade"
    if outputs == (Grade.MILD, REFERABLE_FROM):
        return f"evidence for referable DR, or for any DR below grade {REFERABLE_FROM}"
    if lowest == highest:
        return f"evidence for grade {lowest} or worse"
    return f"evidence for the model's grade, limited to grades {lowest} to {highest}"
