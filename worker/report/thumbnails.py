"""Render the pictures of a report from the source images: photograph and saliency.

Referable images are large enough to be read. The others are previews: their grade is not to be checked on them.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from worker.core.errors import ImageError, ServiceError, Ungradable
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Status
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.saliency_layer import NO_LAYER, SaliencyLayer, render_layer, unpack_saliency
from worker.imaging.sandbox.pool import READER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.imaging.steps.thumbnail import encode_thumbnail
from worker.report.rows import ReportRow

LARGE_PX, LARGE_QUALITY = 1024, 85
PREVIEW_PX, PREVIEW_QUALITY = 384, 50
MAX_CONSECUTIVE_SERVICE_ERRORS = 20
"""After this many, the source is considered unavailable and the rest of the report has no thumbnails."""

IMAGES_PER_PROCESS = 100
"""To start a decoding process takes as long as to decode tens of photographs."""

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Pictures of one image, aligned with each other: photograph, a WebP file, and what is laid over it.

    is_large: whether the photograph is to be read, up to LARGE_PX, or is a preview. An image that the model did not
    grade has an empty layer.
    """

    photograph: bytes
    is_large: bool
    layer: SaliencyLayer = NO_LAYER


class ThumbnailRenderer:
    """Renders thumbnails for one part of the report at a time, which bounds memory."""

    def __init__(self, recipe: Recipe, settings: Settings, on_warning: OnWarning, *, images: int) -> None:
        """Prepare for about this number of images."""
        processes = min(settings.decode_processes, 1 + images // IMAGES_PER_PROCESS)
        self._recipe = recipe
        self._settings = settings.model_copy(update={"decode_processes": processes})
        self._on_warning = on_warning
        self._sources = Storage(settings, connections=settings.transfer_threads).sources
        self._threads = ThreadPoolExecutor(settings.transfer_threads, thread_name_prefix="report")
        self._pools: dict[int, DecoderPool] = {}
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
        started = [(row, self._threads.submit(self._render, row, self._pool(_side_px(row)))) for row in rows]
        return {row.rank: self._finish(row, rendered) for row, rendered in started}

    def _pool(self, side_px: int) -> DecoderPool:
        if side_px not in self._pools:
            settings = self._settings.model_copy(update={"overlay_size_px": side_px})
            self._pools[side_px] = DecoderPool(self._recipe, settings, program=READER_PROGRAM)
        return self._pools[side_px]

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
    quality = LARGE_QUALITY if row.is_referable else PREVIEW_QUALITY
    photograph = encode_thumbnail(image.canvas, _side_px(row), quality)
    if row.model_status != Status.GRADED:
        return Thumbnails(photograph, row.is_referable)
    layer = render_layer(image, unpack_saliency(row.saliency), colours, strength=row.strength)
    return Thumbnails(photograph, row.is_referable, layer)


def _side_px(row: ReportRow) -> int:
    return LARGE_PX if row.is_referable else PREVIEW_PX
