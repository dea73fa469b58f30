"""Carry one image from bytes to the network's input and the canvas of its overlay.

The only step that calls others: what it composes runs in one decoding process, so that one photograph crosses a process
boundary as a few hundred kilobytes and not as its pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageFormatError, Ungradable
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import Field, PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.steps.decode import decode_photograph
from worker.imaging.steps.enhance import enhance_field
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import assess_gradability

Box = tuple[int, int, int, int]


def prepare_image(
    data: bytes, *, recipe: Recipe, overlay_size_px: int, limits: ImageLimits, extra_recipes: Sequence[Recipe] = ()
) -> PreparedImage:
    """A photograph's bytes, decoded no larger than the model and the overlay need, ready for both.

    extra_recipes: recipes of a model that has several; they agree with the first on the field.
    The canvas shows the field's box with its true aspect: its long side fills the canvas, black is above and below.
    Raises ImageError for bytes that are no sound picture, Ungradable for a picture that shows no gradable retina.
    """
    sizes_px = (one.input_size_px for one in (recipe, *extra_recipes))
    photograph = decode_photograph(data, cover_px=max(overlay_size_px, *sizes_px), limits=limits)
    field = find_field(photograph, recipe)
    assess_gradability(photograph, field)
    crop = photograph.rgb[field.top : field.bottom, field.left : field.right]
    box = _centre_box(crop.shape[0], crop.shape[1], overlay_size_px)
    return PreparedImage(
        enhanced=enhance_field(photograph, field, recipe),
        canvas=_draw_canvas(crop, box, overlay_size_px),
        field_mask=_within_border(field, box, overlay_size_px),
        box=_place_window(field, recipe, box),
        extra_inputs=tuple(enhance_field(photograph, field, one) for one in extra_recipes),
    )


def prepare_for_display(data: bytes, *, recipe: Recipe, overlay_size_px: int, limits: ImageLimits) -> PreparedImage:
    """As `prepare`, for a person's eyes: a picture without a gradable retina is drawn, too, and nothing is enhanced.

    The canvas shows what the overlay's does, or the whole picture where no field was found; `enhanced` is black.
    Raises ImageError.
    """
    photograph = decode_photograph(data, cover_px=overlay_size_px, limits=limits)
    try:
        field = find_field(photograph, recipe)
        crop = photograph.rgb[field.top : field.bottom, field.left : field.right]
    except Ungradable:
        crop = photograph.rgb
    box = _centre_box(crop.shape[0], crop.shape[1], overlay_size_px)
    return PreparedImage(
        enhanced=np.zeros((recipe.input_size_px, recipe.input_size_px, 3), np.uint8),
        canvas=_draw_canvas(crop, box, overlay_size_px),
        field_mask=np.ones((overlay_size_px, overlay_size_px), bool),
        box=box,
    )


def prepare_stack_entry(
    entry: NDArray[np.uint8] | NDArray[np.float32], *, recipe: Recipe, overlay_size_px: int
) -> PreparedImage:
    """An image that was preprocessed before it came: given to the network as it is.

    entry: (S, S, 3) RGB, S = recipe.input_size_px, uint8 or float32 in [0, 1]. The canvas shows the same pixels, and
    the field is the inscribed circle.
    Raises ImageFormatError for another shape or type, ImageDecodeError for values that are not finite or out of range.
    """
    size_px = recipe.input_size_px
    if entry.shape != (size_px, size_px, 3) or entry.dtype not in (np.uint8, np.float32):
        found = f"{entry.dtype} {' x '.join(map(str, entry.shape))}"
        raise ImageFormatError(f"entry is {found}; the model takes uint8 or float32 {size_px} x {size_px} x 3")
    if entry.dtype == np.float32:
        # A NaN becomes both, and compares false.
        lowest, highest = float(entry.min()), float(entry.max())
        if not (lowest >= 0 and highest <= 1):
            raise ImageDecodeError(f"entry has values from {lowest:g} to {highest:g}; 0 to 1 is right")
        colours = np.rint(entry * np.float32(255)).astype(np.uint8)
    else:
        colours = entry.astype(np.uint8, copy=False)
    box = (0, overlay_size_px, 0, overlay_size_px)
    places = np.arange(overlay_size_px) - (overlay_size_px - 1) / 2
    return PreparedImage(
        enhanced=entry,
        canvas=_draw_canvas(colours, box, overlay_size_px),
        field_mask=np.asarray(np.hypot(places[:, None], places[None, :]) <= overlay_size_px / 2),
        box=box,
    )


def _centre_box(height: int, width: int, size_px: int) -> Box:
    """Where a crop of this size lies when its long side fills the canvas: top, bottom, left, right."""
    longer = max(height, width)
    tall, wide = max(1, round(height * size_px / longer)), max(1, round(width * size_px / longer))
    top, left = (size_px - tall) // 2, (size_px - wide) // 2
    return top, top + tall, left, left + wide


def _place_window(field: Field, recipe: Recipe, box: Box) -> Box:
    """Where the model's window lies on a canvas that shows the field's box at `box`."""
    top, bottom, left, right = field.crop_window(recipe)
    down, across = (box[1] - box[0]) / (field.bottom - field.top), (box[3] - box[2]) / (field.right - field.left)
    top, bottom = (box[0] + round((row - field.top) * down) for row in (top, bottom))
    left, right = (box[2] + round((column - field.left) * across) for column in (left, right))
    return top, bottom, left, right


def _draw_canvas(crop: NDArray[np.uint8], box: Box, size_px: int) -> NDArray[np.uint8]:
    top, bottom, left, right = box
    canvas = np.zeros((size_px, size_px, 3), np.uint8)
    canvas[top:bottom, left:right] = cv2.resize(
        crop, (right - left, bottom - top), interpolation=_choose_interpolation(crop.shape[0] / (bottom - top))
    )
    return canvas


def _choose_interpolation(shrink: float) -> int:
    # Up to 2, no pixel is passed over by the mean of two neighbours, which takes a seventh of the time of the area's.
    if shrink >= 2:
        return cv2.INTER_AREA
    return cv2.INTER_LINEAR if shrink > 1 else cv2.INTER_CUBIC


def _within_border(field: Field, box: Box, size_px: int) -> NDArray[np.bool_]:
    """Pixels of the canvas whose middle lies within the fitted border and the box."""
    top, bottom, left, right = box
    border = field.border
    # From the middle of a canvas pixel to the photograph, whose pixel i reaches from i - 0.5 to i + 0.5.
    x = field.left + (np.arange(right - left) + 0.5) * (field.right - field.left) / (right - left) - 0.5
    y = field.top + (np.arange(bottom - top) + 0.5) * (field.bottom - field.top) / (bottom - top) - 0.5
    across, down = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
    field_mask = np.zeros((size_px, size_px), bool)
    np.less_equal((across**2)[None, :], (1 - down**2)[:, None], out=field_mask[top:bottom, left:right])
    return field_mask
