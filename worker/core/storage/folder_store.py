"""Object store in a local folder."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from worker.core.errors import StorageError
from worker.core.storage.atomic_write import copy_atomically, write_atomically
from worker.core.storage.object_store import CACHE_IMMUTABLE, StoredObject


class FolderStore:
    """An ObjectStore whose keys are paths below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,  # noqa: ARG002 - files have none
        metadata: Mapping[str, str],  # noqa: ARG002
        cache_control: str = CACHE_IMMUTABLE,  # noqa: ARG002
    ) -> None:
        """Write one file atomically."""
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from error

    def put_if_unchanged(
        self, key: str, data: bytes, *, version: str | None, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Write one file if it is unchanged; the check and the write are two steps."""
        if self.version(key) != version:
            return False
        self.put(key, data, content_type=content_type, metadata=metadata)
        return True

    def version(self, key: str) -> str | None:
        """Return the file's number and time of change."""
        try:
            status = self._path(key).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self._path(key)}: {error.strerror or error}") from error
        return f"{status.st_ino}-{status.st_mtime_ns}"

    def put_file(self, key: str, file: Path, *, content_type: str) -> None:  # noqa: ARG002 - files have none
        """Copy one file atomically."""
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_atomically(target, file)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from error

    def get(self, key: str) -> bytes:
        """Read one file. Raises KeyError if it does not exist."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise StorageError(f"cannot read {self._path(key)}: {error.strerror or error}") from error

    def delete(self, key: str) -> None:
        """Delete one file if it exists."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {self._path(key)}: {error.strerror or error}") from error

    def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
        """Delete the files that exist; return the reason for each one that cannot be deleted."""
        refused = {}
        for key in keys:
            try:
                self.delete(key)
            except StorageError as error:
                refused[key] = error.detail
        return refused

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the files below the folder of this prefix."""
        for folder, _, names in os.walk(self._path(prefix), onerror=_refuse_listing):
            for name in names:
                path = Path(folder) / name
                # A file may be deleted while the folder is listed.
                with suppress(FileNotFoundError):
                    modified_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    yield StoredObject(path.relative_to(self.root).as_posix(), modified_at)

    def delete_prefix(self, prefix: str) -> None:
        """Delete the folder of this prefix if it exists."""
        try:
            shutil.rmtree(self._path(prefix))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"cannot delete {self._path(prefix)}: {error.strerror or error}") from error

    def uri(self, key: str) -> str:
        """Return the `file://` URI of an object."""
        return self._path(key).as_uri()

    def download_url(self, key: str, *, expires_s: int) -> str:  # noqa: ARG002 - a file URI does not expire
        """Return the `file://` URI of an object."""
        return self.uri(key)

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"object key {key!r} points outside the store")
        return self.root / key


def _refuse_listing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise StorageError(f"cannot list {error.filename}: {error.strerror or error}") from error
