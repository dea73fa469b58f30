"""Render the thumbnails of a report from the source images: photograph, network input and saliency colours."""

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
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.pool import DECODER_PROGRAM, VIEWER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import render_saliency_layer
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.imaging.steps.thumbnail import encode_thumbnail
from worker.report.rows import ReportRow

PHOTOGRAPH_PX, PHOTOGRAPH_QUALITY = 448, 56
ENHANCED_PX, ENHANCED_QUALITY = 160, 40
COLOURS_PX, COLOURS_QUALITY = 48, 60
"""Saliency is smooth, so the browser can scale it up to the size of the photograph."""
MAX_CONSECUTIVE_SERVICE_ERRORS = 20
"""After this many, the source is considered unavailable and the rest of the report has no thumbnails."""

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """WebP files of one image.

    `enhanced` is the network input, None if the model did not grade the image. `colours` are the saliency colours, None
    if the saliency is empty.
    """

    photograph: bytes
    enhanced: bytes | None
    colours: bytes | None


class ThumbnailRenderer:
    """Renders thumbnails for one part of the report at a time, which bounds memory."""

    def __init__(self, recipe: Recipe, settings: Settings, on_warning: OnWarning) -> None:
        self._recipe = recipe
        self._settings = settings.model_copy(update={"overlay_size_px": PHOTOGRAPH_PX})
        self._on_warning = on_warning
        self._sources = Storage(settings, connections=settings.transfer_threads).sources
        self._threads = ThreadPoolExecutor(settings.transfer_threads, thread_name_prefix="report")
        self._pools: dict[bool, DecoderPool] = {}
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
        started = [(row, self._threads.submit(self._prepare, row, self._pool(row))) for row in rows]
        return {row.rank: self._encode(row, prepared) for row, prepared in started}

    def _pool(self, row: ReportRow) -> DecoderPool:
        """Return the pool for graded images, or the viewer pool, which also decodes ungradable ones."""
        graded = row.model_status == Status.GRADED
        if graded not in self._pools:
            program = DECODER_PROGRAM if graded else VIEWER_PROGRAM
            self._pools[graded] = DecoderPool(self._recipe, self._settings, program=program)
        return self._pools[graded]

    def _prepare(self, row: ReportRow, pool: DecoderPool) -> PreparedImage:
        settings = self._settings
        if self._service_errors >= MAX_CONSECUTIVE_SERVICE_ERRORS:
            raise ServiceError(f"source unavailable: {MAX_CONSECUTIVE_SERVICE_ERRORS} consecutive failures")
        if is_stack_entry(row.uri):
            entry = fetch_stack_entry(
                self._sources, row.uri, max_bytes=settings.max_image_bytes, graded_sha256=row.content_sha256
            )
            return prepare_stack_entry(entry.data, recipe=self._recipe, overlay_size_px=settings.overlay_size_px)
        photograph = fetch_photograph(
            self._sources,
            row.uri,
            max_bytes=settings.max_image_bytes,
            sha256=row.sha256,
            graded_sha256=row.content_sha256,
        )
        return pool.submit(photograph.data).result()

    def _encode(self, row: ReportRow, prepared: Future[PreparedImage]) -> Thumbnails | str:
        try:
            image = prepared.result()
        except (ImageError, Ungradable, ServiceError) as error:
            if isinstance(error, ServiceError):
                self._service_errors += 1
            self._on_warning(f"no thumbnail for image {row.image_id}: {error.detail}")
            return error.detail
        self._service_errors = 0
        photograph = encode_thumbnail(image.canvas, PHOTOGRAPH_PX, PHOTOGRAPH_QUALITY)
        if row.model_status != Status.GRADED:
            return Thumbnails(photograph, None, None)
        saliency = read_saliency(row)
        enhanced = image.enhanced if image.enhanced.dtype == np.uint8 else np.rint(image.enhanced * 255)
        colours = render_saliency_layer(image, saliency, self._settings.overlay_colours) if saliency.any() else None
        return Thumbnails(
            photograph,
            encode_thumbnail(np.asarray(enhanced, np.uint8), ENHANCED_PX, ENHANCED_QUALITY),
            None if colours is None else encode_thumbnail(colours, COLOURS_PX, COLOURS_QUALITY),
        )


def read_saliency(row: ReportRow) -> NDArray[np.float32]:
    """Return the saliency of a row, float32 (h, h), square as for every shipped network; 0 if the row has none."""
    flat = np.frombuffer(row.saliency or bytes(2), np.float16).astype(np.float32)
    side = int(np.sqrt(flat.size))
    return flat[: side * side].reshape(side, side)
