"""The preprocessing recipe of a model: how its training images were made, and how the worker prepares its inputs."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Preprocessing from the decoded photograph to the model's input. It is part of the bundle, not of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input_size_px: int = Field(ge=32, le=2048)
    """Side of the square input, in pixels."""
    input_range: tuple[float, float]
    """Values at the model's input for 0 and 255 (or 0.0 and 1.0) of the enhanced image."""
    crop: Literal["lit_box", "field", "none"]
    """`lit_box`: bounding box of the rows and columns with more than `lit_share` foreground pixels, resized to a square
    without keeping the aspect ratio. `field`: bounding box of the fitted border, so that the field becomes a circle
    even if the camera cut it off or the photograph was resized anisotropically; pixels beyond the photograph are
    `outside`. `none`: the whole photograph."""
    lit_floor: int = Field(default=10, ge=0, le=255)
    """Foreground threshold, 0 to 255. A pixel is foreground if its largest channel exceeds this and `lit_fraction` of
    the brightest pixel."""
    lit_fraction: Fraction = 0.06
    """Foreground threshold as a fraction of the brightest pixel."""
    lit_share: Fraction = 0.02
    """Minimum share of foreground pixels in a row or column of the foreground box."""
    enhancement: Literal["graham", "none"]
    """`graham`: gain x (image - blurred image) + offset (Graham 2015, Kaggle Diabetic Retinopathy Detection)."""
    sigma_fraction: float = Field(default=1 / 30, gt=0, le=1)
    """Standard deviation of the Gaussian blur, as a fraction of the input size."""
    gain: float = Field(default=4.0, gt=0)
    offset: float = Field(default=128.0, ge=0, le=255)
    cut_to_circle: bool = False
    """Whether pixels outside the inscribed circle are set to `outside`."""
    circle_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Radius of the circle as a fraction of the inscribed circle's; None means 1. The blur mixes the dark background
    into the rim, where the difference looks like a lesion; Graham kept 0.9."""
    outside: int = Field(default=128, ge=0, le=255)
    """Grey level of padding and of pixels outside the circle."""

    @property
    def circle_radius_px(self) -> int:
        """Radius of the circle that `cut_to_circle` keeps; its centre is the pixel (S // 2, S // 2)."""
        return int(self.input_size_px // 2 * (1.0 if self.circle_share is None else self.circle_share))

    @model_validator(mode="after")
    def _check_range(self) -> "Recipe":
        low, high = self.input_range
        if not low < high:
            raise ValueError(f"input_range must increase, got {low} to {high}")
        return self
