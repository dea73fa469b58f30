"""Prepare one image: from its bytes to the model's input and the canvas of its overlay.

The only step that calls other steps. They run together in one decoding process, so that a few hundred kilobytes cross
the process boundary instead of the whole photograph.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageFormatError, Ungradable
from worker.core.vocabulary import DicomAdmission
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import Ellipse, Field, Photograph, PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.steps.decode import decode_photograph
from worker.imaging.steps.enhance import enhance_field
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import assess_gradability

Box = tuple[int, int, int, int]
FIELD_SIDE_PX = 700
"""Shorter side of the copy on which the field of a photograph for readers is found."""


def prepare_image(
    data: bytes,
    *,
    recipe: Recipe,
    overlay_size_px: int,
    limits: ImageLimits,
    extra_recipes: Sequence[Recipe] = (),
    admitted: Collection[DicomAdmission] = (),
) -> PreparedImage:
    """Decode, crop and enhance a photograph for the model, and draw the canvas of its overlay.

    extra_recipes: the other recipes of an ensemble; all recipes define the same field. admitted: as for
    `decode_photograph`.
    The canvas shows the field's bounding box with its aspect ratio kept, its longer side filling the canvas.
    Raises ImageError for an invalid or damaged file, Ungradable for a photograph without a gradable retina.
    """
    input_sizes_px = (one.input_size_px for one in (recipe, *extra_recipes))
    photograph = decode_photograph(
        data, cover_px=max(overlay_size_px, *input_sizes_px), limits=limits, admitted=admitted
    )
    field = find_field(photograph, recipe)
    assess_gradability(photograph, field)
    crop = photograph.rgb[field.top : field.bottom, field.left : field.right]
    box = _centre_box(crop.shape[0], crop.shape[1], overlay_size_px)
    return PreparedImage(
        enhanced=enhance_field(photograph, field, recipe),
        canvas=_draw_canvas(crop, box, overlay_size_px),
        field_mask=_draw_field_mask(field, box, overlay_size_px),
        crop_box=_crop_box_on_canvas(field, recipe, box),
        extra_inputs=tuple(enhance_field(photograph, field, one) for one in extra_recipes),
    )


def prepare_for_reading(
    data: bytes,
    *,
    recipe: Recipe,
    largest_side_px: int,
    limits: ImageLimits,
    admitted: Collection[DicomAdmission] = (),
) -> PreparedImage:
    """Prepare a photograph for people, also an ungradable one; `enhanced` is black.

    The canvas has the geometry of `prepare_image`, so that a saliency map fits on it, or shows the whole photograph if
    it has no field. It is never enlarged: its side is the longer side of the crop in pixels of the photograph, at most
    `largest_side_px`. Raises ImageError.
    """
    photograph = decode_photograph(data, cover_px=largest_side_px, limits=limits, admitted=admitted)
    field = _find_field_for_reading(photograph, recipe)
    whole = (0, photograph.rgb.shape[0], 0, photograph.rgb.shape[1])
    top, bottom, left, right = whole if field is None else (field.top, field.bottom, field.left, field.right)
    side_px = min(largest_side_px, max(bottom - top, right - left))
    box = _centre_box(bottom - top, right - left, side_px)
    return PreparedImage(
        enhanced=np.zeros((recipe.input_size_px, recipe.input_size_px, 3), np.uint8),
        canvas=_draw_canvas(photograph.rgb[top:bottom, left:right], box, side_px),
        field_mask=np.ones((side_px, side_px), bool) if field is None else _draw_field_mask(field, box, side_px),
        crop_box=box if field is None else _crop_box_on_canvas(field, recipe, box),
    )


def prepare_stack_entry(
    entry: NDArray[np.uint8] | NDArray[np.float32], *, recipe: Recipe, overlay_size_px: int
) -> PreparedImage:
    """Prepare an image that is already preprocessed: the model gets it unchanged.

    entry: (S, S, 3) RGB, S = recipe.input_size_px, uint8 or float32 in [0, 1]. The canvas shows the same pixels; the
    field is the inscribed circle.
    Raises ImageFormatError for another shape or dtype, ImageDecodeError for values that are not finite or out of range.
    """
    size_px = recipe.input_size_px
    if entry.shape != (size_px, size_px, 3) or entry.dtype not in (np.uint8, np.float32):
        found = f"{entry.dtype} {' x '.join(map(str, entry.shape))}"
        raise ImageFormatError(f"entry is {found}, expected uint8 or float32 {size_px} x {size_px} x 3")
    if entry.dtype == np.float32:
        # A NaN makes both NaN, and the comparison false.
        lowest, highest = float(entry.min()), float(entry.max())
        if not (lowest >= 0 and highest <= 1):
            raise ImageDecodeError(f"entry has values from {lowest:g} to {highest:g}, expected 0 to 1")
        rgb = np.rint(entry * np.float32(255)).astype(np.uint8)
    else:
        rgb = entry.astype(np.uint8, copy=False)
    box = (0, overlay_size_px, 0, overlay_size_px)
    offsets = np.arange(overlay_size_px) - (overlay_size_px - 1) / 2
    return PreparedImage(
        enhanced=entry,
        canvas=_draw_canvas(rgb, box, overlay_size_px),
        field_mask=np.asarray(np.hypot(offsets[:, None], offsets[None, :]) <= overlay_size_px / 2),
        crop_box=box,
    )


def _find_field_for_reading(photograph: Photograph, recipe: Recipe) -> Field | None:
    """Find the field on a copy with about FIELD_SIDE_PX pixels on the shorter side, in a tenth of the time.

    If it has none there, it is searched in all pixels. None if there is no field.
    """
    height, width = photograph.rgb.shape[:2]
    for step in sorted({max(1, min(height, width) // FIELD_SIDE_PX), 1}, reverse=True):
        small = photograph.rgb if step == 1 else cv2.resize(photograph.rgb, (width // step, height // step))
        with suppress(Ungradable):
            field = find_field(Photograph(np.asarray(small, np.uint8), photograph.scale / step), recipe)
            return field if step == 1 else _enlarge_field(field, step, height, width)
    return None


def _enlarge_field(field: Field, step: int, height: int, width: int) -> Field:
    """Return a field in pixels that are `step` times smaller, within a photograph of height x width."""
    border = field.border
    # The centre of pixel i is at i + 0.5.
    x, y = ((centre + 0.5) * step - 0.5 for centre in (border.centre_x, border.centre_y))
    return Field(
        field.top * step,
        min(height, field.bottom * step),
        field.left * step,
        min(width, field.right * step),
        Ellipse(x, y, border.radius_x_px * step, border.radius_y_px * step),
    )


def _centre_box(height: int, width: int, size_px: int) -> Box:
    """Position of a centred crop whose longer side fills the canvas: top, bottom, left, right."""
    longer = max(height, width)
    height_px, width_px = max(1, round(height * size_px / longer)), max(1, round(width * size_px / longer))
    top, left = (size_px - height_px) // 2, (size_px - width_px) // 2
    return top, top + height_px, left, left + width_px


def _crop_box_on_canvas(field: Field, recipe: Recipe, box: Box) -> Box:
    """Position of the model's crop on a canvas that shows the field's bounding box at `box`."""
    top, bottom, left, right = field.crop_window(recipe)
    scale_y, scale_x = (box[1] - box[0]) / (field.bottom - field.top), (box[3] - box[2]) / (field.right - field.left)
    top, bottom = (box[0] + round((row - field.top) * scale_y) for row in (top, bottom))
    left, right = (box[2] + round((column - field.left) * scale_x) for column in (left, right))
    return top, bottom, left, right


def _draw_canvas(crop: NDArray[np.uint8], box: Box, size_px: int) -> NDArray[np.uint8]:
    top, bottom, left, right = box
    canvas = np.zeros((size_px, size_px, 3), np.uint8)
    canvas[top:bottom, left:right] = cv2.resize(
        crop, (right - left, bottom - top), interpolation=_choose_interpolation(crop.shape[0] / (bottom - top))
    )
    return canvas


def _choose_interpolation(downscale: float) -> int:
    # Below 2, bilinear interpolation skips no pixel and is seven times as fast as area averaging.
    if downscale >= 2:
        return cv2.INTER_AREA
    return cv2.INTER_LINEAR if downscale > 1 else cv2.INTER_CUBIC


def _draw_field_mask(field: Field, box: Box, size_px: int) -> NDArray[np.bool_]:
    """Mask of the canvas pixels whose centre lies within the fitted border and the box, bool (C, C)."""
    top, bottom, left, right = box
    border = field.border
    # Centres of canvas pixels in pixels of the photograph, where pixel i spans i - 0.5 to i + 0.5.
    x = field.left + (np.arange(right - left) + 0.5) * (field.right - field.left) / (right - left) - 0.5
    y = field.top + (np.arange(bottom - top) + 0.5) * (field.bottom - field.top) / (bottom - top) - 0.5
    x_radii, y_radii = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
    field_mask = np.zeros((size_px, size_px), bool)
    np.less_equal((x_radii**2)[None, :], (1 - y_radii**2)[:, None], out=field_mask[top:bottom, left:right])
    return field_mask
