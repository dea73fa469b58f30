"""How a model's training pictures were made; the worker repeats it exactly."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Preprocessing from the decoded photograph to the network's input. It belongs to the model, not to the worker."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input_size_px: int = Field(ge=32, le=2048)
    """Side of the square input."""
    input_range: tuple[float, float]
    """What 0 and 255 (or 0.0 and 1.0) of the enhanced picture become at the network's input."""
    crop: Literal["lit_box", "field", "none"]
    """`lit_box`: the rows and columns of which more than `lit_share` of the pixels are lit, squashed to a square.
    `field`: the box about the fitted border, which becomes a circle, also where the camera cut it off or the
    photograph was squashed; what lies beyond the picture is `outside`."""
    lit_floor: int = Field(default=10, ge=0, le=255)
    """A pixel is lit when its largest channel is above this and above `lit_fraction` of the brightest."""
    lit_fraction: Fraction = 0.06
    lit_share: Fraction = 0.02
    enhancement: Literal["graham", "none"]
    """`graham`: gain x (picture - its Gaussian blur) + offset (Graham 2015, winner's report of Kaggle DR)."""
    sigma_fraction: float = Field(default=1 / 30, gt=0, le=1)
    """Standard deviation of the blur over the input size."""
    gain: float = Field(default=4.0, gt=0)
    offset: float = Field(default=128.0, ge=0, le=255)
    cut_to_circle: bool = False
    """Replace what lies outside the inscribed circle by `outside`."""
    circle_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Radius that is kept, over the inscribed one; None keeps all. Near the rim the blur has seen the dark outside, and
    what is left of that looks like a lesion: Graham kept 0.9."""
    outside: int = Field(default=128, ge=0, le=255)

    @property
    def circle_radius_px(self) -> int:
        """Of the circle that `cut_to_circle` keeps, about the pixel (S // 2, S // 2)."""
        return int(self.input_size_px // 2 * (1.0 if self.circle_share is None else self.circle_share))

    @model_validator(mode="after")
    def _range_is_ordered(self) -> "Recipe":
        low, high = self.input_range
        if not low < high:
            raise ValueError(f"input_range must rise, got {low} to {high}")
        return self
