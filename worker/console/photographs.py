"""Render photographs for the browser: fetched under the worker's rules and decoded in a sandbox process.

The result is a new JPEG with the geometry of the overlay. No byte of the source file, and so no EXIF metadata, reaches
a browser. A photograph that was replaced after it was graded is refused: its overlay and grade are of another one.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from worker.console.image_detail import ImageSource
from worker.core.errors import ImageChangedError, ImageError, ServiceError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.pool import VIEWER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import Fetched, StackEntry, fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import encode_overlay
from worker.imaging.steps.prepare import prepare_stack_entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE_PX = 1280
QUALITY = 90
CACHED = 64
"""Photographs in the cache, about 20 MB: readers go back and forth."""
MAX_CONCURRENT = 4
"""Files in memory at the same time; each may be as large as FUNDUS_MAX_IMAGE_BYTES."""
PROCESSES = 2
SMALLEST_INPUT_PX = 32
DEFAULT_RECIPE = Recipe(input_size_px=SMALLEST_INPUT_PX, input_range=(0, 1), crop="lit_box", enhancement="none")
"""Recipe for an image that no model has graded."""
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class FoundPhotograph:
    """What is at the location of a photograph now.

    sha256: None if it is not readable. is_changed: it is not the photograph that was graded.
    """

    sha256: str | None
    is_changed: bool = False


class PhotographRenderer:
    """Renders photographs, caches the most recent ones, and owns the decoder processes."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings.model_copy(
            update={"overlay_size_px": SIDE_PX, "decode_processes": min(PROCESSES, settings.decode_processes)}
        )
        self._storage = storage
        self._cache: OrderedDict[tuple[str, Recipe], bytes] = OrderedDict()
        self._pools: dict[Recipe, DecoderPool] = {}
        self._lock, self._starting = Lock(), Lock()
        self._slots = BoundedSemaphore(MAX_CONCURRENT)

    def render(self, source: ImageSource) -> bytes:
        """Return the photograph as a JPEG, SIDE_PX square.

        Raises ImageError, ImageChangedError if it was replaced after it was graded, and ServiceError if storage or
        decoder processes are unavailable.
        """
        recipe = source.recipe or DEFAULT_RECIPE
        with self._slots:
            # Fetched again each time: the cache saves the decoding, and a replaced file is noticed.
            fetched = self._fetch(source)
            key = (fetched.content.sha256, recipe)
            with self._lock:
                if key in self._cache:
                    self._cache.move_to_end(key)
                    return self._cache[key]
            encoded = encode_overlay(self._canvas(fetched.data, recipe), "jpeg", QUALITY)
        with self._lock:
            self._cache[key] = encoded
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return encoded

    def find(self, source: ImageSource) -> FoundPhotograph:
        """Return what is at the location of a photograph now, without decoding it."""
        try:
            with self._slots:
                return FoundPhotograph(self._fetch(source).content.sha256)
        except ImageChangedError:
            return FoundPhotograph(None, is_changed=True)
        except (ImageError, ServiceError):
            return FoundPhotograph(None)

    def read_overlay(self, key: str) -> tuple[bytes, str]:
        """Return the bytes and the media type of an overlay. Raises KeyError, ImageError and StorageError."""
        data = self._storage.overlays.get(key)
        for signature, kind in SIGNATURES.items():
            if data.startswith(signature):
                return data, kind
        raise ImageError("overlay is neither a PNG nor a JPEG", code="overlay_invalid")

    def close(self) -> None:
        """Stop the decoder processes."""
        with self._starting:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _fetch(self, source: ImageSource) -> Fetched[bytes] | Fetched[StackEntry]:
        sources, limit = self._storage.sources, self._settings.max_image_bytes
        if is_stack_entry(source.uri):
            return fetch_stack_entry(sources, source.uri, max_bytes=limit, graded_sha256=source.content_sha256)
        return fetch_photograph(
            sources, source.uri, max_bytes=limit, sha256=source.sha256, graded_sha256=source.content_sha256
        )

    def _canvas(self, data: "bytes | StackEntry", recipe: Recipe) -> "NDArray[np.uint8]":
        if isinstance(data, bytes):
            return self._pool(recipe).submit(data).result().canvas
        return prepare_stack_entry(data, recipe=recipe, overlay_size_px=SIDE_PX).canvas

    def _pool(self, recipe: Recipe) -> DecoderPool:
        # The canvas does not depend on the size of the network input, so most models share one pool.
        shared = DEFAULT_RECIPE.model_copy(
            update={name: getattr(recipe, name) for name in ("crop", "lit_floor", "lit_fraction", "lit_share")}
        )
        with self._starting:
            if shared not in self._pools:
                self._pools[shared] = DecoderPool(shared, self._settings, program=VIEWER_PROGRAM)
            return self._pools[shared]
