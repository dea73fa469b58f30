"""The frozen values that inference yields for one image; arrays are read-only by convention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.vocabulary import Flag, Grade, Status

ModelInput: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32] | tuple[NDArray[np.uint8] | NDArray[np.float32], ...]"
"""A picture (S, S, 3) for the network, or one for each recipe of a model that has several."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of one image.

    probabilities: float32 (5,), each in [0, 1], output k is P(grade >= k), as they came.
    saliency: float32 (h, w) in [0, 1], maximum 1, or all zero where nothing speaks for the grade.
    disagreement: standard deviation of the expected grades of an ensemble's members; None for one network.
    """

    probabilities: NDArray[np.float32]
    saliency: NDArray[np.float32]
    disagreement: float | None = None


@dataclass(frozen=True, slots=True)
class GradeDecision:
    """A decoded grade: `referable` is grade 2 or worse; `class_probabilities` float32 (5,), grades 0 to 4, sum 1."""

    grade: Grade
    referable: bool
    class_probabilities: NDArray[np.float32]
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image, as the ledger records it."""

    image_id: str
    status: Status
    prediction: Prediction | None = None
    decision: GradeDecision | None = None
    overlay_key: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
