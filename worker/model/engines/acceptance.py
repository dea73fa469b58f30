"""The gate of the engines: what each showed against float32 TensorFlow, and whether that lets `auto` choose it."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from worker.core.predictions import Prediction
from worker.model.ordinal import decode_outputs

SAME_GRADES = 0.997
"""Least share of images with the same grade."""
PROBABILITY_P99 = 0.01
"""99 % of the images differ by less in each cumulative probability."""
SALIENCY_P1 = 0.995
"""99 % of the saliency maps correlate better."""


class EngineAgreement(BaseModel):
    """Figures of one engine at one precision, as `python -m tests.benchmarks.engine_acceptance` measured them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    precision: str
    model_id: str
    images: int
    same_grades: float
    probability_p99: float
    saliency_p1: float

    @property
    def passed(self) -> bool:
        """Whether all three limits are kept."""
        return (
            self.same_grades >= SAME_GRADES
            and self.probability_p99 < PROBABILITY_P99
            and self.saliency_p1 > SALIENCY_P1
        )

    @property
    def lines(self) -> tuple[str, str, str]:
        """Each figure beside its limit, for people."""
        return (
            f"same grade                      {self.same_grades:.4%}   (at least {SAME_GRADES:.1%})",
            f"probabilities apart, 99th pct   {self.probability_p99:.5f}    (less than {PROBABILITY_P99})",
            f"saliency correlation, 1st pct   {self.saliency_p1:.5f}    (more than {SALIENCY_P1})",
        )


AGREEMENTS = TypeAdapter(list[EngineAgreement])


@cache
def read_agreements() -> tuple[EngineAgreement, ...]:
    """Those that are shipped."""
    return tuple(AGREEMENTS.validate_json(files("worker.model.engines").joinpath("acceptance.json").read_bytes()))


def is_accepted(engine: str, precision: str) -> bool:
    """Whether it was measured, and passed. One model stands for all: they are one network."""
    return any(
        verdict.passed for verdict in read_agreements() if (verdict.engine, verdict.precision) == (engine, precision)
    )


def measure_agreement(
    expected: Sequence[Prediction],
    got: Sequence[Prediction],
    thresholds: Sequence[float],
    *,
    precision: str,
    model_id: str,
) -> EngineAgreement:
    """The figures of OpenVINO's predictions against those that were expected, N >= 1 of each in the same order."""
    same = [
        decode_outputs(one.probabilities, thresholds).grade == decode_outputs(other.probabilities, thresholds).grade
        for one, other in zip(expected, got, strict=True)
    ]
    apart = [np.abs(one.probabilities - other.probabilities).max() for one, other in zip(expected, got, strict=True)]
    alike = [_correlate(one.saliency, other.saliency) for one, other in zip(expected, got, strict=True)]
    return EngineAgreement(
        engine="openvino",
        precision=precision,
        model_id=model_id,
        images=len(expected),
        same_grades=round(float(np.mean(same)), 6),
        probability_p99=round(float(np.percentile(apart, 99)), 6),
        saliency_p1=round(float(np.percentile(alike, 1)), 6),
    )


def _correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two maps; 1 where both are flat."""
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
