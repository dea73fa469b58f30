"""Read source images, and distinguish an object that its store refuses from a store that fails.

A refusal (permission, archive tier, encryption key) is the object's fault if the store serves another object. The image
goes back to the queue without waiting, and fails with its last refusal. A store that refuses every object fails no
image: its administrator may have changed a policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog

from worker.core.errors import ImageError, ImageRefusedError, ObjectRefusedError, StorageError
from worker.inference.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.core.storage.source_reader import SourceReader
    from worker.ledger.leases import LeasedImage

MAX_REFUSALS = 3
"""Refusals, each after a longer pause, after which an image fails."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class ImageSource:
    """Reads images through one circuit breaker for each bucket and file system; thread-safe."""

    def __init__(
        self, sources: SourceReader, find_graded_uri: Callable[[int, str], str | None], *, patience_s: float
    ) -> None:
        """Create it without any request.

        find_graded_uri: returns the URI of a graded image of a run, by run id and store, see
        `worker.ledger.leases.find_graded_uri`. patience_s: see CircuitBreaker.
        """
        self._sources = sources
        self._find_graded_uri = find_graded_uri
        self._patience_s = patience_s
        self._breakers: dict[str, CircuitBreaker] = {}
        self._served: dict[str, str] = {}
        """URI of the last image that each store served."""

    def read(self, image: LeasedImage, run_id: int, read: Callable[[], T]) -> T:
        """Return the result of `read`, a function that reads the image.

        Raises its ImageErrors, ImageRefusedError for an image refused MAX_REFUSALS times, StorageError and
        DatabaseError.
        """
        store = self._sources.store_uri(image.uri)
        try:
            return self._request(store, image, read)
        except ObjectRefusedError:
            if image.refusals + 1 < MAX_REFUSALS or not self._serves_another(store, image, run_id):
                raise
        try:  # Again, since the store may have begun to serve objects between the two requests.
            return self._request(store, image, read)
        except ObjectRefusedError as error:
            raise ImageRefusedError(
                f"{error.detail}; refused {image.refusals + 1} times, while the store served another object"
            ) from error

    def _request(self, store: str, image: LeasedImage, read: Callable[[], T]) -> T:
        breaker = self._breakers.setdefault(store, CircuitBreaker(store, patience_s=self._patience_s))
        with breaker.request():
            result = read()
        self._served[store] = image.uri
        return result

    def _serves_another(self, store: str, image: LeasedImage, run_id: int) -> bool:
        uri = self._served.get(store) or self._find_graded_uri(run_id, store)
        if uri is None or uri == image.uri:
            return False
        try:
            self._sources.probe(uri)
        except (ImageError, StorageError) as error:
            log.warning("store_refuses", store=store, code=error.code, detail=error.detail)
            self._served.pop(store, None)
            return False
        return True
