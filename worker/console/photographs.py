"""Photographs for the browser: fetched by the worker's rules, decoded in a process of their own, drawn anew.

What leaves is a JPEG of the pixels, laid out as the overlay is: no byte of the file, and so no EXIF, reaches a browser.
"""

from collections import OrderedDict
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from worker.console.image_detail import Source
from worker.core.errors import ImageError
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.pool import VIEWER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import encode_overlay
from worker.imaging.steps.prepare import prepare_stack_entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE_PX = 1280
QUALITY = 90
KEPT = 64
"""About 20 MB: a reader goes back and forth."""
AT_ONCE = 4
"""Files in memory at the same time; each may have FUNDUS_MAX_IMAGE_BYTES."""
PROCESSES = 2
SMALLEST_INPUT_PX = 32
PLAIN = Recipe(input_size_px=SMALLEST_INPUT_PX, input_range=(0, 1), crop="lit_box", enhancement="none")
"""For an image that no model has seen yet."""
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Photographs:
    """Keeps the last photographs, and the processes that draw them."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings.model_copy(
            update={"overlay_size_px": SIDE_PX, "decode_processes": min(PROCESSES, settings.decode_processes)}
        )
        self._storage = storage
        self._kept: OrderedDict[Source, bytes] = OrderedDict()
        self._pools: dict[Recipe, DecoderPool] = {}
        self._lock, self._starting = Lock(), Lock()
        self._slots = BoundedSemaphore(AT_ONCE)

    def draw(self, source: Source) -> bytes:
        """A JPEG, SIDE_PX square. Raises ImageError, and ServiceError when storage or decoders are away."""
        with self._lock:
            if source in self._kept:
                self._kept.move_to_end(source)
                return self._kept[source]
        with self._slots:
            drawn = encode_overlay(self._canvas(source), "jpeg", QUALITY)
        with self._lock:
            self._kept[source] = drawn
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return drawn

    def overlay(self, key: str) -> tuple[bytes, str]:
        """The overlay's bytes and its type, by its first bytes. Raises KeyError, ImageError and StorageError."""
        data = self._storage.overlays.get(key)
        for signature, kind in SIGNATURES.items():
            if data.startswith(signature):
                return data, kind
        raise ImageError("the overlay is neither a PNG nor a JPEG", code="overlay_invalid")

    def close(self) -> None:
        """End the processes."""
        with self._starting:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _canvas(self, source: Source) -> "NDArray[np.uint8]":
        limit = self._settings.max_image_bytes
        recipe = source.recipe or PLAIN
        if is_stack_entry(source.uri):
            entry = fetch_stack_entry(self._storage, source.uri, max_bytes=limit)
            return prepare_stack_entry(entry, recipe=recipe, overlay_size_px=SIDE_PX).canvas
        data = fetch_photograph(self._storage, source.uri, max_bytes=limit, sha256=source.sha256)
        return self._pool(recipe).submit(data).result().canvas

    def _pool(self, recipe: Recipe) -> DecoderPool:
        # A canvas does not depend on the network's input, so most models share one pool.
        shared = PLAIN.model_copy(
            update={name: getattr(recipe, name) for name in ("crop", "lit_floor", "lit_fraction", "lit_share")}
        )
        with self._starting:
            if shared not in self._pools:
                self._pools[shared] = DecoderPool(shared, self._settings, program=VIEWER_PROGRAM)
            return self._pools[shared]
