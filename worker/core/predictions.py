"""Results of inference for one image, as frozen dataclasses; their arrays must not be modified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.content import ContentId
    from worker.core.vocabulary import Flag, Grade, Status

ModelInput: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32] | tuple[NDArray[np.uint8] | NDArray[np.float32], ...]"
"""Enhanced image (S, S, 3) for the network, or a tuple with one image for each recipe of the model."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence for the explained output at the maximum of a saliency map.

    logits: by how much the output would exceed the bias of the head if the whole image looked as it does there.
    scale: the evidence that all maps of the model show at full strength, in logits; None for a model without a scale.
    """

    logits: float
    scale: float | None = None

    @property
    def strength(self) -> float:
        """Strength of the maximum, in [0, 1]; 1 without a scale, so that the map shows its places only."""
        return 1.0 if self.scale is None else min(1.0, self.logits / self.scale)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of the network or ensemble for one image.

    probabilities: float32 (5,) in [0, 1]; output k is P(grade >= k), not necessarily monotone.
    saliency: float32 (h, w) in [0, 1] with maximum 1; all zero without positive evidence for the explained output.
    evidence: what the saliency's maximum stands for; None if unknown.
    disagreement: standard deviation of the members' expected grades; None for a single network.
    unfamiliarity: distance of the image's features from those of the training images, above 1 for 2 % of held-out ones;
    None for a model without a feature space.
    """

    probabilities: NDArray[np.float32]
    saliency: NDArray[np.float32]
    evidence: Evidence | None = None
    disagreement: float | None = None
    unfamiliarity: float | None = None

    @property
    def strength(self) -> float:
        """Strength of the saliency's maximum, in [0, 1], see `Evidence`."""
        return 1.0 if self.evidence is None else self.evidence.strength


@dataclass(frozen=True, slots=True)
class GradeDecision:
    """Decoded grade.

    referable: whether the grade is 2 or worse.
    class_probabilities: float32 (5,) of grades 0 to 4, with sum 1.
    """

    grade: Grade
    referable: bool
    class_probabilities: NDArray[np.float32]
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Final result of one image, as the ledger stores it. content: None if it was not fetched."""

    image_id: str
    status: Status
    prediction: Prediction | None = None
    decision: GradeDecision | None = None
    overlay_key: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    content: ContentId | None = None
