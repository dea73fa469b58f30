"""Render the pictures of a report from the source images: photograph and saliency.

Referable images are large enough to be read. The others are previews: their grade is not to be checked on them.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageError, ServiceError, Ungradable
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Status
from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP
from worker.imaging.contours import trace_contours
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.saliency_levels import place_on_canvas
from worker.imaging.sandbox.pool import DECODER_PROGRAM, VIEWER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import render_saliency_layer
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.imaging.steps.thumbnail import encode_thumbnail
from worker.report.rows import ReportRow

LARGE_PX, LARGE_QUALITY = 1024, 85
PREVIEW_PX, PREVIEW_QUALITY = 384, 50
TINT_PX, TINT_QUALITY = 48, 60
"""A tint is smooth, so the browser can scale it up to the size of the photograph."""
MAX_CONSECUTIVE_SERVICE_ERRORS = 20
"""After this many, the source is considered unavailable and the rest of the report has no thumbnails."""

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Pictures of one image, aligned with each other: photograph and tint as WebP files, and contour lines.

    is_large: whether the photograph has LARGE_PX instead of PREVIEW_PX. tint: None where nothing is tinted. contours:
    the lines of `trace_contours`; empty without any. An image that the model did not grade has neither.
    """

    photograph: bytes
    is_large: bool
    tint: bytes | None = None
    contours: str = ""


class ThumbnailRenderer:
    """Renders thumbnails for one part of the report at a time, which bounds memory."""

    def __init__(self, recipe: Recipe, settings: Settings, on_warning: OnWarning) -> None:
        self._recipe = recipe
        self._settings = settings
        self._on_warning = on_warning
        self._sources = Storage(settings, connections=settings.transfer_threads).sources
        self._threads = ThreadPoolExecutor(settings.transfer_threads, thread_name_prefix="report")
        self._pools: dict[tuple[bool, int], DecoderPool] = {}
        self._service_errors = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        for pool in self._pools.values():
            pool.close()

    def render(self, rows: Iterable[ReportRow]) -> dict[int, Thumbnails | str]:
        """Return the thumbnails by rank, or the reason why an image could not be rendered, which is also a warning.

        Raises ServiceError if no decoder process starts.
        """
        started = [(row, self._threads.submit(self._render, row, self._pool(row))) for row in rows]
        return {row.rank: self._finish(row, rendered) for row, rendered in started}

    def _pool(self, row: ReportRow) -> DecoderPool:
        """Return the pool for graded images, or the viewer pool, which also decodes ungradable ones."""
        graded, side_px = row.model_status == Status.GRADED, _side_px(row)
        if (graded, side_px) not in self._pools:
            settings = self._settings.model_copy(update={"overlay_size_px": side_px})
            program = DECODER_PROGRAM if graded else VIEWER_PROGRAM
            self._pools[graded, side_px] = DecoderPool(self._recipe, settings, program=program)
        return self._pools[graded, side_px]

    def _render(self, row: ReportRow, pool: DecoderPool) -> Thumbnails:
        return render_thumbnails(self._prepare(row, pool), row, self._settings.overlay_colours)

    def _prepare(self, row: ReportRow, pool: DecoderPool) -> PreparedImage:
        settings = self._settings
        if self._service_errors >= MAX_CONSECUTIVE_SERVICE_ERRORS:
            raise ServiceError(f"source unavailable: {MAX_CONSECUTIVE_SERVICE_ERRORS} consecutive failures")
        if is_stack_entry(row.uri):
            entry = fetch_stack_entry(
                self._sources, row.uri, max_bytes=settings.max_image_bytes, graded_sha256=row.content_sha256
            )
            return prepare_stack_entry(entry.data, recipe=self._recipe, overlay_size_px=_side_px(row))
        photograph = fetch_photograph(
            self._sources,
            row.uri,
            max_bytes=settings.max_image_bytes,
            sha256=row.sha256,
            graded_sha256=row.content_sha256,
        )
        return pool.submit(photograph.data).result()

    def _finish(self, row: ReportRow, rendered: Future[Thumbnails]) -> Thumbnails | str:
        try:
            thumbnails = rendered.result()
        except (ImageError, Ungradable, ServiceError) as error:
            if isinstance(error, ServiceError):
                self._service_errors += 1
            self._on_warning(f"no thumbnail for image {row.image_id}: {error.detail}")
            return error.detail
        self._service_errors = 0
        return thumbnails


def render_thumbnails(image: PreparedImage, row: ReportRow, colours: str) -> Thumbnails:
    """Return the pictures of a prepared image. colours: name of the colour map of the saliency."""
    is_large = row.is_referable
    quality = LARGE_QUALITY if is_large else PREVIEW_QUALITY
    photograph = encode_thumbnail(image.canvas, _side_px(row), quality)
    saliency = read_saliency(row)
    if row.model_status != Status.GRADED or not saliency.any():
        return Thumbnails(photograph, is_large)
    tint = render_saliency_layer(image, saliency, colours, strength=row.strength, with_contours=False)
    levels = place_on_canvas(saliency, image, row.strength) * image.field_mask
    return Thumbnails(
        photograph,
        is_large,
        encode_thumbnail(tint, TINT_PX, TINT_QUALITY) if tint[..., 3].any() else None,
        "" if colours == NOTEBOOK_COLOUR_MAP else trace_contours(levels),
    )


def _side_px(row: ReportRow) -> int:
    return LARGE_PX if row.is_referable else PREVIEW_PX


def read_saliency(row: ReportRow) -> NDArray[np.float32]:
    """Return the saliency of a row, float32 (h, h), square as for every shipped network; 0 if the row has none."""
    flat = np.frombuffer(row.saliency or bytes(2), np.float16).astype(np.float32)
    side = int(np.sqrt(flat.size))
    return flat[: side * side].reshape(side, side)
