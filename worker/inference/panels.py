"""Grade a few photographs with the steps of a worker and render each as one row of a PNG figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import FundusError, ImageError, ServiceError, Ungradable
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.uris import file_uri, uri_scheme
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.pool import DecoderPool
from worker.imaging.steps.fetch import fetch_photograph
from worker.imaging.steps.overlay import encode_overlay, load_colour_map, render_overlay
from worker.imaging.steps.panel import PREPROCESSED, render_panel, tile_images
from worker.model.bundle.ensemble import load_model
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine
from worker.model.engines.protocol import Engine

MAX_IMAGES = 64
"""Most rows of one figure; few viewers open a larger one."""


def render_panels(
    settings: Settings, images: Sequence[str], references: Mapping[str, int], *, on_warning: Callable[[str], object]
) -> bytes:
    """Return a PNG with one row per image: photograph, preprocessed image, overlay.

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
    return encode_overlay(np.vstack(rows), "png", settings.overlay_quality)


def _prepare(storage: Storage, pool: DecoderPool, image: str, settings: Settings) -> PreparedImage:
    uri = image if uri_scheme(image) in ("s3", "file") else file_uri(Path(image))
    return pool.submit(fetch_photograph(storage.sources, uri, max_bytes=settings.max_image_bytes).data).result()


def _render_row(
    engine: Engine, prepared: PreparedImage, name: str, reference: int | None, settings: Settings
) -> NDArray[np.uint8]:
    prediction = engine.predict([prepared.model_input])[0]
    decision = decide_grade(prediction, engine.bundle)
    overlay = render_overlay(prepared, prediction.saliency, settings.overlay_colours)
    known = "" if reference is None else f", reference {reference}"
    titles = (_in_ascii(name), f"graded {decision.grade:d}{known}")
    return render_panel(prepared, overlay, titles, settings.overlay_size_px)


def _render_empty_row(name: str, error: FundusError, side_px: int) -> NDArray[np.uint8]:
    black = np.zeros((8, 8, 3), np.uint8)
    return tile_images([black] * 3, [_in_ascii(name), PREPROCESSED, f"no grade: {error.code}"], side_px)


def _in_ascii(name: str) -> str:
    """Replace characters that OpenCV cannot draw."""
    return name.encode("ascii", "replace").decode()
