"""The small pictures of a report, made from the sources once more: photograph, network's input, colours."""

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
"""The colours are smooth: a browser draws them over the photograph as large as it is."""
MAX_CONSECUTIVE_SERVICE_ERRORS = 20
"""In a row; then the source is taken to be away, and the rest of the report goes without pictures."""

OnWarning = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """WebP files of one image; `colours` is None where nothing in the photograph speaks for the grade.

    `enhanced` is None where the network never saw the photograph: it could not be graded.
    """

    photograph: bytes
    enhanced: bytes | None
    colours: bytes | None


class ThumbnailRenderer:
    """Draws the images of one part at a time, so that memory holds no more than these."""

    def __init__(self, recipe: Recipe, settings: Settings, on_warning: OnWarning) -> None:
        self._recipe = recipe
        self._settings = settings.model_copy(update={"overlay_size_px": PHOTOGRAPH_PX})
        self._on_warning = on_warning
        self._sources = Storage(settings, connections=settings.transfer_threads).sources
        self._threads = ThreadPoolExecutor(settings.transfer_threads, thread_name_prefix="report")
        self._pools: dict[bool, DecoderPool] = {}
        self._faults = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        for pool in self._pools.values():
            pool.close()

    def draw(self, rows: Iterable[ReportRow]) -> dict[int, Thumbnails | str]:
        """By rank; for one that can't be had any more, a sentence that says why, which is a on_warning, too.

        Raises ServiceError when no decoder comes up.
        """
        started = [(row, self._threads.submit(self._prepare, row, self._pool(row))) for row in rows]
        return {row.rank: self._encode(row, prepared) for row, prepared in started}

    def _pool(self, row: ReportRow) -> DecoderPool:
        """One that refuses what cannot be graded, or, for what was refused already, one that draws it for people."""
        graded = row.model_status == Status.GRADED
        if graded not in self._pools:
            program = DECODER_PROGRAM if graded else VIEWER_PROGRAM
            self._pools[graded] = DecoderPool(self._recipe, self._settings, program=program)
        return self._pools[graded]

    def _prepare(self, row: ReportRow, pool: DecoderPool) -> PreparedImage:
        settings = self._settings
        if self._faults >= MAX_CONSECUTIVE_SERVICE_ERRORS:
            raise ServiceError(f"the source was away {MAX_CONSECUTIVE_SERVICE_ERRORS} times in a row")
        if is_stack_entry(row.uri):
            entry = fetch_stack_entry(self._sources, row.uri, max_bytes=settings.max_image_bytes)
            return prepare_stack_entry(entry, recipe=self._recipe, overlay_size_px=settings.overlay_size_px)
        return pool.submit(
            fetch_photograph(self._sources, row.uri, max_bytes=settings.max_image_bytes, sha256=row.sha256)
        ).result()

    def _encode(self, row: ReportRow, prepared: Future[PreparedImage]) -> Thumbnails | str:
        try:
            made = prepared.result()
        except (ImageError, Ungradable, ServiceError) as error:
            if isinstance(error, ServiceError):
                self._faults += 1
            self._on_warning(f"{row.image_id} has no picture in the report: {error.detail}")
            return error.detail
        self._faults = 0
        photograph = encode_thumbnail(made.canvas, PHOTOGRAPH_PX, PHOTOGRAPH_QUALITY)
        if row.model_status != Status.GRADED:
            return Thumbnails(photograph, None, None)
        saliency = read_saliency(row)
        enhanced = made.enhanced if made.enhanced.dtype == np.uint8 else np.rint(made.enhanced * 255)
        colours = render_saliency_layer(made, saliency, self._settings.overlay_colours) if saliency.any() else None
        return Thumbnails(
            photograph,
            encode_thumbnail(np.asarray(enhanced, np.uint8), ENHANCED_PX, ENHANCED_QUALITY),
            None if colours is None else encode_thumbnail(colours, COLOURS_PX, COLOURS_QUALITY),
        )


def read_saliency(row: ReportRow) -> NDArray[np.float32]:
    """float32 (h, w), square as every shipped network's is; zero everywhere where the row has none."""
    flat = np.frombuffer(row.saliency or bytes(2), np.float16).astype(np.float32)
    side = int(np.sqrt(flat.size))
    return flat[: side * side].reshape(side, side)
