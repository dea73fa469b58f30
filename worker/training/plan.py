"""Settings of a fit: everything that determines its weights, so that the same plan gives the same weights."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121
from worker.model.network.backend import Backend
from worker.training.precision import Precision

Fraction = Annotated[float, Field(ge=0, le=1)]

DEFAULT_RECIPE = Recipe(
    input_size_px=224,
    input_range=(-2.0, 1.984375),
    crop="lit_box",
    enhancement="graham",
    cut_to_circle=True,
    circle_share=0.93,
)
"""Recipe of the first shipped bundle without the rim: 0.07 of the radius is the standard deviation of the blur."""


class Plan(BaseModel):
    """Settings of a fit, stored as `plan.json`; a fit can only be resumed with the plan it was started with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest_sha256: str
    """SHA-256 of the manifest of photographs and reference grades."""
    recipe: Recipe
    architecture: str = DENSENET121
    """Name of the backbone in `worker.model.network.build.list_backbones`."""
    initial_model_id: str | None = None
    """Bundle that provides the initial weights; None for random ones."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the split, the initial weights, the order, the augmentation and the dropout."""
    validation_share: float = Field(default=0.16, gt=0, lt=1)
    """Fraction of the groups of images held out for validation."""
    images_per_source: int | None = Field(default=None, ge=1)
    """Largest number of images of a source that cross-validation uses; None for all."""
    epochs: int = Field(default=30, ge=1, le=1000)
    patience: int = Field(default=10, ge=1)
    """Epochs without improvement after which the fit stops."""
    choose_by: Literal["kappa", "loss", "auc"] = "kappa"
    """Validation metric that selects the best epoch, averaged over the sources; auc is that of referable DR."""
    thresholds: Literal["half", "kappa", "screening"] = "half"
    """Thresholds of the outputs: 0.5 each, those with the highest kappa on the unaugmented training images, or those of
    the default `ScreeningRule` on the validation images."""
    batch_size: int = Field(default=32, ge=2, le=1024)
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate, reached after `warm_up_share` of all steps."""
    warm_up_share: Fraction = 0.05
    trained_from: str | None = None
    """Layer of the backbone from which on the network is trained; None: all of it. Earlier layers keep their weights,
    and their batch normalisation keeps its statistics."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine decay to zero (Loshchilov and Hutter 2017), or constant, with averaged
    weights instead of a decay (Izmailov et al. 2018, arXiv 1803.05407)."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Decoupled weight decay of kernels (AdamW); other variables do not decay."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this global norm."""
    ema_decay: float = Field(
        default=0.995,
        ge=0,
        lt=1,
        validation_alias=AliasChoices("averaging", "ema_decay"),
        serialization_alias="averaging",
    )
    """Decay of the exponential moving average of the weights, which is validated and kept."""
    interpolation_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        validation_alias=AliasChoices("initial_share", "interpolation_share"),
        serialization_alias="initial_share",
    )
    """Share of the initial weights in the final ones, interpolated with the best epoch's. A share of 0.5 often does
    better on images of other cameras (Wortsman et al. 2022, arXiv 2109.01903)."""
    balance: Fraction = 0.5
    """Each grade of each source is drawn in proportion to its count to this power: 1 keeps the proportions, 0 draws all
    equally."""
    amplitude_mixing: Fraction = 0.0
    """Largest share of another image's amplitude spectrum, Xu et al. 2021, arXiv 2105.14291; 0 mixes nothing."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Targets are this value and one minus it instead of 0 and 1, for reference grades that are often wrong."""
    teacher_model_id: str | None = None
    """Model whose probabilities are targets with the reference grades; None for none."""
    teacher_share: Fraction = 0.0
    """Weight of the teacher in the targets of an image with a reference grade."""
    backend: Backend = "tensorflow"
    """Library that Keras computes with; each draws other random numbers."""
    precision: Precision = "bfloat16"
    threads: int | None = Field(default=None, ge=1)
    """Threads within an operation; another number sums in another order and changes the last digits."""

    def first_difference(self, other: "Plan") -> str | None:
        """Describe the first setting in which another plan differs, with both values; None if the plans are equal."""
        for name, field in type(self).model_fields.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{field.serialization_alias or name} is {mine}, it was {theirs}"
        return None

    def to_json(self) -> str:
        """Return the text of `plan.json`."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"
