"""Frozen values exchanged by the imaging steps. Arrays are read-only by convention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.predictions import ModelInput
    from worker.imaging.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Photograph:
    """A decoded fundus photograph.

    rgb: uint8 (H, W, 3). scale: decoded size over original size, in (0, 1]. resized: cache of `resize_crop`.
    """

    rgb: NDArray[np.uint8]
    scale: float = 1.0
    resized: dict[tuple[int, ...], NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An axis-aligned ellipse in pixels of the photograph; a circle has equal radii."""

    centre_x: float
    centre_y: float
    radius_x_px: float
    radius_y_px: float


@dataclass(frozen=True, slots=True)
class Field:
    """The field of view of one photograph, in pixels of the photograph.

    top, bottom, left, right: bounding box of the foreground, ends exclusive. border: fitted border, which extends past
    the box where the camera cuts the field off.
    """

    top: int
    bottom: int
    left: int
    right: int
    border: Ellipse

    def crop_window(self, recipe: Recipe) -> tuple[int, int, int, int]:
        """Return top, bottom, left, right, ends exclusive, of the crop that is resized to the model's input.

        With `recipe.crop == "field"` it is the bounding box of the border and may extend past the photograph; otherwise
        it is the bounding box of the foreground.
        """
        if recipe.crop != "field":
            return self.top, self.bottom, self.left, self.right
        border = self.border
        # Pixel i reaches from i - 0.5 to i + 0.5.
        top, bottom = (round(border.centre_y + 0.5 + side * border.radius_y_px) for side in (-1, 1))
        left, right = (round(border.centre_x + 0.5 + side * border.radius_x_px) for side in (-1, 1))
        return top, bottom, left, right


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """The result of preparation: the model's input, and the canvas on which the overlay is drawn.

    enhanced: (S, S, 3) RGB, uint8 or float32 in [0, 1]; S is the model's input size.
    canvas: uint8 (C, C, 3) RGB, the field of the photograph in colour, centred on black; C is the overlay's size.
    field_mask: bool (C, C), true within the field.
    crop_box: top, bottom, left, right of the model's crop in canvas pixels, ends exclusive. The saliency map covers it.
    It may extend past the canvas.
    extra_inputs: like `enhanced`, one for each extra recipe of an ensemble.
    """

    enhanced: NDArray[np.uint8] | NDArray[np.float32]
    canvas: NDArray[np.uint8]
    field_mask: NDArray[np.bool_]
    crop_box: tuple[int, int, int, int]
    extra_inputs: tuple[NDArray[np.uint8], ...] = ()

    @property
    def model_input(self) -> ModelInput:
        """Input of the model: one array, or a tuple with one for each recipe of an ensemble."""
        return (self.enhanced, *self.extra_inputs) if self.extra_inputs else self.enhanced
