"""Where a report is put: under a prefix of the store, or in a folder of its own."""

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
    """`prefix` ends with a slash, or is empty. What is written here may be read while it is written anew."""

    store: ObjectStore
    prefix: str = ""

    def write(self, name: str, data: bytes) -> None:
        """Raises StorageError."""
        self.store.put(
            self.prefix + name,
            data,
            content_type=CONTENT_TYPES[name.rpartition(".")[2]],
            metadata={},
            cache_control=CACHE_REVALIDATE,
        )

    def write_file(self, name: str, file: Path) -> None:
        """Raises StorageError."""
        self.store.put_file(self.prefix + name, file, content_type=CONTENT_TYPES[name.rpartition(".")[2]])

    def list_files(self) -> set[str]:
        """The files of the report that is here, by its own list. Raises StorageError."""
        with suppress(KeyError, ValueError, TypeError):
            names = json.loads(self.store.get(self.prefix + SUMMARY))["files"]
            return {name for name in names if isinstance(name, str) and "/" not in name}
        return set()

    def delete(self, names: set[str]) -> None:
        """Remove what an earlier report had and this one has not. Raises StorageError."""
        for name in sorted(names):
            self.store.delete(self.prefix + name)

    def uri(self, name: str) -> str:
        """The address of one file."""
        return self.store.uri(self.prefix + name)


def folder_destination(folder: Path) -> Destination:
    """A folder of its own."""
    return Destination(FolderStore(folder))
