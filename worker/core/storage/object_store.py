"""Interface of the object stores that hold overlays and reports."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

CACHE_IMMUTABLE = "private, max-age=31536000, immutable"
"""Cache-Control of objects whose content never changes."""
CACHE_REVALIDATE = "private, no-cache"
"""Cache-Control of objects that may be overwritten."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Key of an object and the time, with a zone, at which it was last written."""

    key: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class ObjectContent:
    """Content of an object or file. version: S3 version id; None if it can be overwritten in place."""

    data: bytes
    version: str | None = None


class ObjectStore(Protocol):
    """Objects by key. Every method raises StorageError if the store fails or refuses."""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        cache_control: str = CACHE_IMMUTABLE,
    ) -> None:
        """Write one object atomically; an existing one is replaced."""

    def put_if_unchanged(
        self, key: str, data: bytes, *, version: str | None, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Write one object atomically if its version is still `version`, or if it is missing and `version` is None.

        Returns whether it was written. Atomic in a store with conditional writes; in a folder, and in a store without
        them, a writer in the same moment may be replaced.
        """

    def version(self, key: str) -> str | None:
        """Return the version of an object, which changes with its content; None if it does not exist."""

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:
        """Write one object atomically from a file, which need not fit into memory; use CACHE_REVALIDATE."""

    def get(self, key: str) -> bytes:
        """Read one object. Raises KeyError if it does not exist."""

    def delete(self, key: str) -> None:
        """Delete one object if it exists."""

    def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Delete the objects that exist; return the reason for each key that the store refuses to delete."""

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose key begins with `prefix`, which must end with a slash, in constant memory."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key begins with `prefix`, which must end with a slash."""

    def uri(self, key: str) -> str:
        """Return the `file://` or `s3://` URI of an object."""

    def download_url(self, key: str, *, expires_s: int) -> str:
        """Return a URL that a browser opens without credentials until it expires."""
