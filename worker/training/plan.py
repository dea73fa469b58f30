"""What a fit is asked to do: everything that decides its weights, so that the same plan gives the same weights."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121
from worker.training.precision import Precision

Share = Annotated[float, Field(ge=0, le=1)]

DEFAULT_RECIPE = Recipe(
    input_size_px=224,
    input_range=(-2.0, 1.984375),
    crop="lit_box",
    enhancement="graham",
    cut_to_circle=True,
    circle_share=0.93,
)
"""Of the shipped bundle, less the rim: 0.07 of the radius is the blur's standard deviation."""


class Plan(BaseModel):
    """Frozen, and written beside what it led to; `fit` goes on only under the plan that it began with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest_sha256: str
    """Of the file that names photographs and reference grades."""
    recipe: Recipe
    architecture: str = DENSENET121
    """The backbone, by its name in keras.applications in small letters."""
    initial_model_id: str | None = None
    """The bundle whose weights are the first; None for random ones."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the split, the first weights, the order, the augmentation and the dropout."""
    validation_share: float = Field(default=0.16, gt=0, lt=1)
    epochs: int = Field(default=30, ge=1, le=1000)
    patience: int = Field(default=10, ge=1)
    """Epochs without a better one after which the fit ends."""
    choose_by: Literal["kappa", "loss"] = "kappa"
    """What makes an epoch better, on the validation pictures."""
    thresholds: Literal["half", "kappa"] = "half"
    """Of the bundle's outputs: 0.5 each, or those with the highest kappa on the training pictures, not augmented."""
    batch_size: int = Field(default=32, ge=2, le=1024)
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest, after `warm_up_share` of all steps."""
    warm_up_share: Share = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: a cosine to zero (Loshchilov and Hutter 2017), or no fall, and the average of the weights
    settles in its place (Izmailov et al. 2018, arXiv 1803.05407)."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Of kernels alone (AdamW)."""
    gradient_norm: float = Field(default=1.0, gt=0)
    averaging: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is judged and kept."""
    initial_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the first weights in the bundle's, the rest of them those of the best epoch: half and half often does
    better on other cameras (Wortsman et al. 2022, arXiv 2109.01903)."""
    balance: Share = 0.5
    """Each grade is drawn in proportion to its count to this power: 1 as they come, 0 all grades alike."""
    precision: Precision = "bfloat16"
    threads: int | None = Field(default=None, ge=1)
    """Of one operation; sums run in another order with another number."""

    def first_difference(self, other: "Plan") -> str | None:
        """The first field in which another plan differs, with both values, for people."""
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {mine}, it was {theirs}"
        return None
