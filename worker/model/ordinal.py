"""Decode the five cumulative outputs of an ordinal classifier into grades and class probabilities."""

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


def _check_order(outputs: tuple[int, int]) -> tuple[int, int]:
    lowest, highest = outputs
    if lowest > highest:
        raise ValueError(f"output {lowest} is above {highest}")
    return outputs


ExplainedOutputs = Annotated[tuple[Output, Output], AfterValidator(_check_order)]
"""The lowest and the highest output that a map may explain: the highest output passed is clipped to this range."""


def decode_outputs(probabilities: NDArray[np.float32], thresholds: Sequence[float]) -> GradeDecision:
    """Return the grade of five cumulative outputs, flagged if they are inconsistent.

    probabilities: (5,), output k is P(grade >= k). thresholds: one for each output, which is passed above it.
    The grade is the highest output passed, because a passed output implies all below it. If no output is passed, the
    grade is 0 and flagged; outputs that increase from one to the next are flagged as well.
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
    """Return the probabilities of the grades 0 to 4, float32 (5,), sum 1: differences of adjacent cumulative outputs.

    As in decoding, an output raises all lower outputs to its value. Output 0 counts as 1: every eye has a grade.
    """
    monotone = np.maximum.accumulate(probabilities[::-1].astype(np.float64))[::-1]
    monotone[0] = 1.0
    return -np.diff(monotone, append=0.0).astype(np.float32)


def describe_explained_outputs(outputs: tuple[int, int]) -> str:
    """Return, for people, what a model's maps show. outputs: the lowest and the highest output that it explains."""
    lowest, highest = outputs
    if outputs == ALL_OUTPUTS:
        return "evidence for the model's grade"
    if outputs == (Grade.MILD, REFERABLE_FROM):
        return f"evidence for referable DR, or for any DR below grade {REFERABLE_FROM}"
    if lowest == highest:
        return f"evidence for grade {lowest} or worse"
    return f"evidence for the model's grade, limited to grades {lowest} to {highest}"
