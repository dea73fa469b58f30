"""Render a stored saliency map as a layer that a page lays over the photograph: a small tint and contour lines."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP
from worker.imaging.contours import trace_contours
from worker.imaging.photograph import PreparedImage
from worker.imaging.saliency_levels import place_on_canvas
from worker.imaging.steps.overlay import render_saliency_layer
from worker.imaging.steps.thumbnail import encode_thumbnail

TINT_PX, TINT_QUALITY = 48, 60
"""A tint is smooth, so the browser can scale it up to the size of the photograph."""
_TINT_CANVAS_PX = 192
_CONTOUR_CANVAS_PX = 512


@dataclass(frozen=True, slots=True)
class SaliencyLayer:
    """Pictures of the square that the canvas of the photograph shows.

    tint: WebP file with transparency; None where nothing is tinted. contours: the lines of `trace_contours`; empty
    without any.
    """

    tint: bytes | None = None
    contours: str = ""


NO_LAYER = SaliencyLayer()


def render_layer(
    prepared: PreparedImage, saliency: NDArray[np.float32], colours: str, *, strength: float
) -> SaliencyLayer:
    """Render the layer of a photograph. Arguments and errors are those of `render_overlay`, which has the same look."""
    if not saliency.any():
        return NO_LAYER
    tint = render_saliency_layer(
        _resize_geometry(prepared, _TINT_CANVAS_PX), saliency, colours, strength=strength, with_contours=False
    )
    lines = colours != NOTEBOOK_COLOUR_MAP
    return SaliencyLayer(
        encode_thumbnail(tint, TINT_PX, TINT_QUALITY) if tint[..., 3].any() else None,
        _trace(_resize_geometry(prepared, _CONTOUR_CANVAS_PX), saliency, strength) if lines else "",
    )


def unpack_saliency(stored: bytes | None) -> NDArray[np.float32]:
    """Return a map of the ledger, float32 (h, h), square as for every shipped network; 0 for None."""
    flat = np.frombuffer(stored or bytes(2), np.float16).astype(np.float32)
    side = int(np.sqrt(flat.size))
    return flat[: side * side].reshape(side, side)


def _trace(geometry: PreparedImage, saliency: NDArray[np.float32], strength: float) -> str:
    return trace_contours(place_on_canvas(saliency, geometry, strength) * geometry.field_mask)


def _resize_geometry(prepared: PreparedImage, side_px: int) -> PreparedImage:
    """Return mask and crop box on a black canvas of another size: a map does not need the pixels of a large one."""
    rows = (np.arange(side_px) + 0.5) * len(prepared.canvas) / side_px
    places = rows.astype(int)
    top, bottom, left, right = (round(edge * side_px / len(prepared.canvas)) for edge in prepared.crop_box)
    return replace(
        prepared,
        canvas=np.zeros((side_px, side_px, 3), np.uint8),
        field_mask=prepared.field_mask[np.ix_(places, places)],
        crop_box=(top, max(bottom, top + 1), left, max(right, left + 1)),
    )
