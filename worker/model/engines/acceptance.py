"""Acceptance of engines: measured agreement with float32 TensorFlow, and the limits for `FUNDUS_ENGINE=auto`."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from worker.core.predictions import Prediction
from worker.model.ordinal import decode_outputs

MIN_SAME_GRADES = 0.997
"""Lower limit of the share of images with the same grade."""
MAX_PROBABILITY_P99 = 0.01
"""Upper limit of the 99th percentile of an image's largest difference in cumulative probability."""
MIN_SALIENCY_P1 = 0.995
"""Lower limit of the 1st percentile of the correlation of saliency maps."""


class EngineAgreement(BaseModel):
    """Agreement of an engine at one precision with float32, measured by `tests.benchmarks.engine_acceptance`."""

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
        """Whether all three limits are met."""
        return (
            self.same_grades >= MIN_SAME_GRADES
            and self.probability_p99 < MAX_PROBABILITY_P99
            and self.saliency_p1 > MIN_SALIENCY_P1
        )

    @property
    def lines(self) -> tuple[str, str, str]:
        """Each figure with its limit, for people."""
        return (
            f"same grade                      {self.same_grades:.4%}   (at least {MIN_SAME_GRADES:.1%})",
            f"probability change, 99th pct    {self.probability_p99:.5f}    (less than {MAX_PROBABILITY_P99})",
            f"saliency correlation, 1st pct   {self.saliency_p1:.5f}    (more than {MIN_SALIENCY_P1})",
        )


AGREEMENTS = TypeAdapter(list[EngineAgreement])


@cache
def load_agreements() -> tuple[EngineAgreement, ...]:
    """Return the agreements that were measured for this release."""
    return tuple(AGREEMENTS.validate_json(files("worker.model.engines").joinpath("acceptance.json").read_bytes()))


def is_accepted(engine: str, precision: str) -> bool:
    """Return whether the engine's measured agreement meets the limits.

    One model was measured for all, because all have the same network.
    """
    return any(one.passed for one in load_agreements() if (one.engine, one.precision) == (engine, precision))


def measure_agreement(
    expected: Sequence[Prediction],
    found: Sequence[Prediction],
    thresholds: Sequence[float],
    *,
    engine: str,
    precision: str,
    model_id: str,
) -> EngineAgreement:
    """Compare an engine's predictions with the expected ones: N >= 1 of each, of the same images in the same order."""
    pairs = list(zip(expected, found, strict=True))
    same = [
        decode_outputs(one.probabilities, thresholds).grade == decode_outputs(other.probabilities, thresholds).grade
        for one, other in pairs
    ]
    changes = [np.abs(one.probabilities - other.probabilities).max() for one, other in pairs]
    correlations = [correlate(one.saliency, other.saliency) for one, other in pairs]
    return EngineAgreement(
        engine=engine,
        precision=precision,
        model_id=model_id,
        images=len(expected),
        same_grades=round(float(np.mean(same)), 6),
        probability_p99=round(float(np.percentile(changes, 99)), 6),
        saliency_p1=round(float(np.percentile(correlations, 1)), 6),
    )


def correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation of two maps: 1 if both are constant, 0 if one is."""
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
