"""Render photographs for the browser: fetched under the worker's rules and decoded in a sandbox process.

The result is a new JPEG at the photograph's own resolution with the geometry of the overlay, or a thumbnail. No byte of
the source file, and so no EXIF metadata, reaches a browser. A photograph that was replaced after it was graded is
refused: its overlay and grade are of another one.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from worker.console.image_detail import ImageDetail, ImageSource
from worker.core.errors import ImageChangedError, ImageError, ServiceError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.imaging.recipe import Recipe
from worker.imaging.saliency_layer import SaliencyLayer, render_layer, unpack_saliency
from worker.imaging.sandbox.pool import READER_PROGRAM, DecoderPool
from worker.imaging.steps.fetch import Fetched, StackEntry, fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import encode_overlay
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.imaging.steps.thumbnail import encode_thumbnail

if TYPE_CHECKING:
    from worker.imaging.photograph import PreparedImage

LARGEST_SIDE_PX = 4096
"""A field that is larger is reduced to this side."""
QUALITY = 90
MAP_PX = 512
"""Side of the canvas on which the field is found for a map, which is smooth."""
CACHED_MAPS = 64
THUMBNAIL_PX = 128
THUMBNAIL_QUALITY = 75
CACHED_BYTES = 64 * 2**20
"""About 40 photographs of 8 megapixels: readers go back and forth."""
CACHED_THUMBNAILS_BYTES = 8 * 2**20
"""About 2,000 thumbnails."""
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


class PictureCache:
    """The most recently used pictures, up to a number of bytes. For several threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pictures: OrderedDict[object, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: object) -> bytes | None:
        """Return the picture with this key; None if it is not stored."""
        with self._lock:
            if (found := self._pictures.get(key)) is not None:
                self._pictures.move_to_end(key)
            return found

    def put(self, key: object, picture: bytes) -> None:
        """Store a picture, and remove the least recently used ones beyond the limit."""
        with self._lock:
            self._pictures[key] = picture
            self._pictures.move_to_end(key)
            while sum(map(len, self._pictures.values())) > self._limit_bytes:
                self._pictures.popitem(last=False)


class PhotographRenderer:
    """Renders photographs, caches the most recent ones, and owns the decoder processes."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._photographs, self._thumbnails = PictureCache(CACHED_BYTES), PictureCache(CACHED_THUMBNAILS_BYTES)
        self._pools: dict[tuple[Recipe, int], DecoderPool] = {}
        self._starting = Lock()
        self._slots = BoundedSemaphore(MAX_CONCURRENT)
        self._maps: OrderedDict[object, SaliencyLayer] = OrderedDict()
        self._map_slot = Lock()
        # Of their own, so that a page of thumbnails does not delay the photograph that a reader waits for.
        self._thumbnail_slots = BoundedSemaphore(1)

    def render(self, source: ImageSource) -> bytes:
        """Return the field of the photograph as a square JPEG, one pixel for each of its own up to LARGEST_SIDE_PX.

        Raises ImageError, ImageChangedError if it was replaced after it was graded, and ServiceError if storage or
        decoder processes are unavailable.
        """
        recipe = source.recipe or DEFAULT_RECIPE
        with self._slots:
            # Fetched again each time: the cache saves the decoding, and a replaced file is noticed.
            fetched = self._fetch(source)
            key = (fetched.content.sha256, recipe)
            if (encoded := self._photographs.get(key)) is None:
                prepared = self._prepare(fetched.data, recipe, LARGEST_SIDE_PX, PROCESSES)
                encoded = encode_overlay(prepared.canvas, "jpeg", QUALITY)
        self._photographs.put(key, encoded)
        return encoded

    def render_thumbnail(self, source: ImageSource) -> bytes:
        """Return the field of the photograph as a square WebP of THUMBNAIL_PX. Raises as `render` does.

        A thumbnail of the bytes that were graded is served from the cache without a look at the file.
        """
        recipe = source.recipe or DEFAULT_RECIPE
        with self._thumbnail_slots:
            graded = None if source.content_sha256 is None else self._thumbnails.get((source.content_sha256, recipe))
            if graded is not None:
                return graded
            fetched = self._fetch(source)
            key = (fetched.content.sha256, recipe)
            if (encoded := self._thumbnails.get(key)) is None:
                prepared = self._prepare(fetched.data, recipe, THUMBNAIL_PX, 1)
                encoded = encode_thumbnail(prepared.canvas, THUMBNAIL_PX, THUMBNAIL_QUALITY)
        self._thumbnails.put(key, encoded)
        return encoded

    def render_map(self, image: ImageDetail) -> SaliencyLayer:
        """Return the saliency map of a graded image, to be laid over the picture of `render`. Raises as `render` does.

        It has the look of overlay and report: the same transparency, lines and scale.
        """
        source = image.source
        key = (image.run_id, image.image_id, image.saliency, image.strength)
        with self._map_slot:
            if (layer := self._maps.get(key)) is None:
                prepared = self._prepare(self._fetch(source).data, source.recipe or DEFAULT_RECIPE, MAP_PX, 1)
                layer = render_layer(
                    prepared,
                    unpack_saliency(image.saliency),
                    self._settings.overlay_colours,
                    strength=image.strength,
                )
            self._maps[key] = layer
            self._maps.move_to_end(key)
            if len(self._maps) > CACHED_MAPS:
                self._maps.popitem(last=False)
        return layer

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

    def _prepare(
        self, data: "bytes | StackEntry", recipe: Recipe, largest_side_px: int, processes: int
    ) -> "PreparedImage":
        if isinstance(data, bytes):
            return self._pool(recipe, largest_side_px, processes).submit(data).result()
        side_px = min(recipe.input_size_px, largest_side_px)
        return prepare_stack_entry(data, recipe=recipe, overlay_size_px=side_px)

    def _pool(self, recipe: Recipe, largest_side_px: int, processes: int) -> DecoderPool:
        # The canvas does not depend on the size of the network input, so most models share one pool.
        shared = DEFAULT_RECIPE.model_copy(
            update={name: getattr(recipe, name) for name in ("crop", "lit_floor", "lit_fraction", "lit_share")}
        )
        key = (shared, largest_side_px)
        with self._starting:
            if key not in self._pools:
                count = min(processes, self._settings.decode_processes)
                settings = self._settings.model_copy(
                    update={"overlay_size_px": largest_side_px, "decode_processes": count}
                )
                self._pools[key] = DecoderPool(shared, settings, program=READER_PROGRAM)
            return self._pools[key]
