"""Grade a few photographs with the steps of a worker and render each as one row of a PNG figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.clinical_labels import SALIENCY, format_model_grade
from worker.core.errors import FundusError, ImageError, ServiceError, Ungradable
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.uris import file_uri, uri_scheme
from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP, load_colour_map
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.fetch import fetch_photograph
from worker.imaging.steps.overlay import encode_overlay, render_overlay, render_scale
from worker.imaging.steps.panel import GAP_PX, PREPROCESSED, draw_title, render_panel, tile_images
from worker.model.bundle.ensemble import load_model
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine
from worker.model.engines.protocol import Engine

LEGEND_PX = 40
MAX_IMAGES = 64
"""Most rows of one figure; few viewers open a larger one."""


def render_panels(
    settings: Settings, images: Sequence[str], references: Mapping[str, int], *, on_warning: Callable[[str], object]
) -> bytes:
    """Return a PNG with one row per image, photograph, preprocessed image, overlay, and the scale of the overlays.

    images: at most MAX_IMAGES file paths or `s3://` URIs.
    references: reference grades by file name without suffix.
    on_warning: called with a sentence for each image without a grade; its row shows the error code.
    Raises ModelError for an invalid bundle, SettingsError for an unknown colour map.
    """
    load_colour_map(settings.overlay_colours)
    model = load_model(settings.model)
    storage = Storage(settings)
    pool = DecoderPool(model.recipe, settings, extra_recipes=model.extra_recipes)
    rows = []
    try:
        engine = make_engine(settings.engine, model, settings.precision)
        for image in images:
            name = image.rpartition("/")[2]
            try:
                prepared = _prepare(storage, pool, image, settings)
            except (ImageError, Ungradable, ServiceError) as error:
                on_warning(f"{name}: [{error.code}] {error.detail}")
                rows.append(_render_empty_row(name, error, settings.overlay_size_px))
            else:
                rows.append(_render_row(engine, prepared, name, references.get(Path(name).stem), settings))
    finally:
        pool.close()
    rows.append(_render_legend(rows[0].shape[1], settings.overlay_colours, model.evidence_scale))
    return encode_overlay(np.vstack(rows), "png", settings.overlay_quality)


def _prepare(storage: Storage, pool: DecoderPool, image: str, settings: Settings) -> PreparedImage:
    uri = image if uri_scheme(image) in ("s3", "file") else file_uri(Path(image))
    return pool.submit(fetch_photograph(storage.sources, uri, max_bytes=settings.max_image_bytes).data).result()


def _render_row(
    engine: Engine, prepared: PreparedImage, name: str, reference: int | None, settings: Settings
) -> NDArray[np.uint8]:
    prediction = engine.predict([prepared.model_input])[0]
    decision = decide_grade(prediction, engine.bundle)
    overlay = render_overlay(prepared, prediction.saliency, settings.overlay_colours, strength=prediction.strength)
    known = "" if reference is None else f", reference {reference}"
    titles = (_in_ascii(name), f"{format_model_grade(decision.grade)}{known}")
    return render_panel(prepared, overlay, titles, settings.overlay_size_px)


def _render_empty_row(name: str, error: FundusError, side_px: int) -> NDArray[np.uint8]:
    black = np.zeros((8, 8, 3), np.uint8)
    return tile_images([black] * 3, [_in_ascii(name), PREPROCESSED, f"no grade: {error.code}"], side_px)


def _render_legend(width_px: int, colours: str, scale: float | None) -> NDArray[np.uint8]:
    """Draw what the overlays show, and their scale: uint8 (h, width, 3) RGB."""
    if colours == NOTEBOOK_COLOUR_MAP:
        ends = f"{SALIENCY}: each map from its minimum to its maximum"
    elif scale is None:
        ends = f"{SALIENCY}: 0 to 100 % of each map's maximum, lines at 50 and 80 %"
    else:
        ends = f"{SALIENCY}: 0 to {scale:.3g} logits in all images, lines at 50 and 80 %"
    bar_px = max(16, width_px // 5)
    legend = np.full((LEGEND_PX, width_px, 3), 255, np.uint8)
    legend[4:-4, GAP_PX : GAP_PX + bar_px] = render_scale(bar_px, LEGEND_PX - 8, colours)
    legend[:, 2 * GAP_PX + bar_px :] = draw_title(ends, width_px - 2 * GAP_PX - bar_px, LEGEND_PX)
    return legend


def _in_ascii(name: str) -> str:
    """Replace characters that OpenCV cannot draw."""
    return name.encode("ascii", "replace").decode()
