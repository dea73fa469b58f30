"""The small pictures of a report: photograph, what the network saw, and overlay, from the sources once more."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from worker.contract.errors import ImageError, ServiceError, Ungradable
from worker.contract.settings import Settings
from worker.contract.storage import Storage
from worker.decoding.pool import DecoderPool
from worker.items import Prepared
from worker.model.recipe import Recipe
from worker.report.rows import Row
from worker.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.steps.overlay import encode_overlay, render_overlay
from worker.steps.prepare import prepare_stack_entry

SIDE_PX = 384
QUALITY = 82
AHEAD = 32
"""Images in work at once: bounds the memory."""

Remark = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Pictures:
    """File names of one image's JPEGs, beside the pages."""

    photograph: str
    enhanced: str
    overlay: str


def draw_pictures(
    rows: Iterable[tuple[int, Row]], recipe: Recipe, settings: Settings, folder: Path, remark: Remark
) -> Iterator[tuple[int, Pictures]]:
    """Write the pictures of graded images into `folder`, by number; one that can't be had any more gets a remark."""
    small = settings.model_copy(update={"overlay_size_px": SIDE_PX})
    storage = Storage(settings, connections=AHEAD)
    pool = DecoderPool(recipe, small)
    waiting = iter(rows)
    try:
        with ThreadPoolExecutor(settings.transfer_threads) as threads:
            while batch := list(islice(waiting, AHEAD)):
                started = [
                    (number, row, threads.submit(_prepare, row, storage, pool, recipe, small)) for number, row in batch
                ]
                for number, row, prepared in started:
                    if pictures := _write(number, row, prepared, small, folder, remark):
                        yield number, pictures
    finally:
        pool.close()


def _prepare(row: Row, storage: Storage, pool: DecoderPool, recipe: Recipe, settings: Settings) -> Prepared:
    if is_stack_entry(row.uri):
        entry = fetch_stack_entry(storage, row.uri, max_bytes=settings.max_image_bytes)
        return prepare_stack_entry(entry, recipe=recipe, overlay_size_px=settings.overlay_size_px)
    return pool.submit(
        fetch_photograph(storage, row.uri, max_bytes=settings.max_image_bytes, sha256=row.sha256)
    ).result()


def _write(
    number: int, row: Row, prepared: Future[Prepared], settings: Settings, folder: Path, remark: Remark
) -> Pictures | None:
    try:
        made = prepared.result()
    except (ImageError, Ungradable, ServiceError) as error:
        remark(f"{row.image_id} has no picture in the report: {error.detail}")
        return None
    overlay = render_overlay(made, read_saliency(row), settings.overlay_colours)
    enhanced = made.enhanced if made.enhanced.dtype == np.uint8 else np.rint(made.enhanced * 255).astype(np.uint8)
    names = Pictures(*(f"{number:06}-{kind}.jpg" for kind in ("photograph", "enhanced", "overlay")))
    for name, picture in ((names.photograph, made.canvas), (names.enhanced, enhanced), (names.overlay, overlay)):
        (folder / name).write_bytes(encode_overlay(np.asarray(picture, np.uint8), "jpeg", QUALITY))
    return names


def read_saliency(row: Row) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """float32 (h, w), square as every shipped network's is; zero everywhere where the row has none."""
    flat = np.frombuffer(row.saliency or bytes(2), np.float16).astype(np.float32)
    side = int(np.sqrt(flat.size))
    return flat[: side * side].reshape(side, side)
