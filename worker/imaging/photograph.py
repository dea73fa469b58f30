"""The frozen values that the imaging steps exchange; arrays are read-only by convention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.predictions import Enhanced
    from worker.imaging.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Photograph:
    """A decoded fundus photograph: `rgb` uint8 (H, W, 3); `scale` is its size over the size as received, in (0, 1].

    `resized` is what `resize_crop` has made of it.
    """

    rgb: NDArray[np.uint8]
    scale: float = 1.0
    resized: dict[tuple[int, ...], NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """The lit border of a field in pixels of the photograph; a round field has equal radii."""

    centre_x: float
    centre_y: float
    radius_x_px: float
    radius_y_px: float


@dataclass(frozen=True, slots=True)
class Field:
    """The round field of view of one photograph.

    The box holds the lit rows and columns, ends exclusive, in pixels of the photograph; the border may reach past it
    where the camera cuts off top and bottom.
    """

    top: int
    bottom: int
    left: int
    right: int
    border: Ellipse

    def crop_window(self, recipe: Recipe) -> tuple[int, int, int, int]:
        """Top, bottom, left, right, ends exclusive, of what becomes the network's square.

        It is the box, or with the crop `field` the box about the border, which may reach past the picture.
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
    """What leaves the decoding process for one image.

    enhanced: (S, S, 3), uint8 or float32 in [0, 1], RGB, as the model was trained on; S is the model's input size.
    canvas: uint8 (C, C, 3) RGB, the field of the colour photograph, centred on black; C is the overlay's size.
    field_mask: bool (C, C), true within the field.
    box: top, bottom, left, right of the model's crop on the canvas, ends exclusive: where the saliency belongs. It may
    reach past the canvas.
    extra_inputs: as `enhanced`, for each of the extra recipes of an ensemble.
    """

    enhanced: NDArray[np.uint8] | NDArray[np.float32]
    canvas: NDArray[np.uint8]
    field_mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    extra_inputs: tuple[NDArray[np.uint8], ...] = ()

    @property
    def model_input(self) -> Enhanced:
        """What the model takes of this image."""
        return (self.enhanced, *self.extra_inputs) if self.extra_inputs else self.enhanced
