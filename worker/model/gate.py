"""The gate of the engines: what each showed against float32 TensorFlow, and whether that lets `auto` choose it."""

from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

SAME_GRADES = 0.997
"""Least share of images with the same grade."""
PROBABILITY_P99 = 0.01
"""99 % of the images differ by less in each cumulative probability."""
SALIENCY_P1 = 0.995
"""99 % of the saliency maps correlate better."""


class Verdict(BaseModel):
    """Figures of one engine at one precision, as `python -m tests.benchmarks.engine_gate` measured them."""

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


VERDICTS = TypeAdapter(list[Verdict])


@cache
def read_verdicts() -> tuple[Verdict, ...]:
    """Those that are shipped."""
    return tuple(VERDICTS.validate_json(files("worker.model").joinpath("gate.json").read_bytes()))


def passed_gate(engine: str, precision: str) -> bool:
    """Whether it was measured, and passed. One model stands for all: they are one network."""
    return any(
        verdict.passed for verdict in read_verdicts() if (verdict.engine, verdict.precision) == (engine, precision)
    )
