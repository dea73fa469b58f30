"""Destination of a report: a prefix in the object store, or a local folder."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.core.storage.folder_store import FolderStore
from worker.core.storage.object_store import CACHE_REVALIDATE, ObjectStore

SUMMARY = "summary.json"
CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A prefix in a store: empty or ending with a slash. Files may be read while a newer report overwrites them."""

    store: ObjectStore
    prefix: str = ""

    def write(self, name: str, data: bytes) -> None:
        """Write one file. Raises StorageError."""
        self.store.put(
            self.prefix + name,
            data,
            content_type=CONTENT_TYPES[name.rpartition(".")[2]],
            metadata={},
            cache_control=CACHE_REVALIDATE,
        )

    def write_file(self, name: str, file: Path) -> None:
        """Upload a local file. Raises StorageError."""
        self.store.put_file(self.prefix + name, file, content_type=CONTENT_TYPES[name.rpartition(".")[2]])

    def list_files(self) -> set[str]:
        """Return the names of the files of the existing report, from its summary. Raises StorageError."""
        with suppress(KeyError, ValueError, TypeError):
            names = json.loads(self.store.get(self.prefix + SUMMARY))["files"]
            return {name for name in names if isinstance(name, str) and "/" not in name}
        return set()

    def delete(self, names: set[str]) -> None:
        """Delete files that an earlier report left. Raises StorageError."""
        for name in sorted(names):
            self.store.delete(self.prefix + name)

    def uri(self, name: str) -> str:
        """Return the address of a file."""
        return self.store.uri(self.prefix + name)


def folder_destination(folder: Path) -> Destination:
    """Return the destination for a local folder."""
    return Destination(FolderStore(folder))
