"""The record of a fit in a bundle's manifest: data, settings, versions and validation figures."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SPLIT_FILE = "split.csv"

LATER_FIT_FIELDS = (
    "trained_from",
    "amplitude_mixing",
    "label_smoothing",
    "teacher_model_id",
    "teacher_share",
    "ungraded",
)
"""Fields of a record that earlier versions refuse; they describe how the weights were made and change no answer."""

ByGrade = tuple[int, int, int, int, int]


class FitRecord(BaseModel):
    """A run of `fundus model fit`; the bundle's `split.csv` lists the training and the validation images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    split_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of `split.csv`."""
    training: ByGrade
    """Number of training photographs by reference grade."""
    validation: ByGrade
    """Number of validation photographs by reference grade."""
    left_out: int = Field(ge=0)
    """Number of photographs that were left out because a worker would not grade them."""
    initial_model_id: str | None
    """The model whose weights the fit started from; None for random weights."""
    ancestry: Literal["known", "unknown"]
    """Whether `split.csv` lists all training images of these weights, including those of their initial weights and of
    their teacher."""
    validation_seen: Literal["no", "yes", "unknown"]
    """Whether the initial weights or the teacher were trained on a validation image; the figures are valid only if this
    is `no`."""
    seed: int
    epochs: int
    best_epoch: int
    """The epoch, from 1, whose averaged weights are in the bundle, interpolated with `initial_share`."""
    chosen_by: Literal["loss", "auc"] | None = None
    """The validation figure that selected the best epoch; None: quadratic weighted kappa."""
    thresholds: Literal["kappa", "screening"] | None = None
    """How the thresholds were chosen: by kappa on the training images, or by the rule for screening on the validation
    images; None: they are all 0.5."""
    initial_share: float | None = None
    """The share of the initial weights in the bundle's weights; None: 0, only those of the best epoch."""
    batch_size: int
    learning_rate: float
    schedule: Literal["constant"] | None = None
    """The learning rate's schedule after the warm-up; None: cosine decay to zero."""
    trained_from: str | None = None
    """The layer from which on the backbone was trained; None: all of it."""
    amplitude_mixing: float | None = None
    """The largest share of another image's amplitude spectrum; None: 0."""
    label_smoothing: float | None = None
    """The value of the targets instead of 0, and of one minus the targets instead of 1; None: 0."""
    teacher_model_id: str | None = None
    """The model whose probabilities the network learned with the grades; None: there was no teacher."""
    teacher_share: float | None = None
    """Weight of the teacher where a photograph has a reference grade; None: 0."""
    ungraded: int | None = None
    """Number of training photographs without a reference grade, which the teacher graded; None: 0."""
    weight_decay: float
    averaging: float
    """Decay of the exponential moving average of the weights."""
    balance: float
    """Exponent of the grades' counts in sampling: 1 keeps the proportions, 0 draws all grades equally."""
    precision: str
    versions: dict[str, str]
    """Versions of the libraries."""
    figures: dict[str, float | None]
    """Figures of the bundle's weights on the validation images; slightly optimistic, as these chose the epoch."""
