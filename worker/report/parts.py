"""A report's long lists, cut into parts that the page loads when it needs them.

A part is a script, for a page that was opened from a folder may load those and nothing else. The parts of a small
report are held in the page itself, which is then one file.
"""

import json
from collections.abc import Iterator
from typing import Any

from worker.report.destination import Destination


class Parts:
    """Holds parts up to `within_page_bytes` for embedding in the page; beyond that, writes each one to a file."""

    def __init__(self, destination: Destination, generation: str, *, within_page_bytes: int) -> None:
        self._destination = destination
        self.generation = generation
        """Written into each part: a page shows none of another report's."""
        self._within_page_bytes = within_page_bytes
        self._kept: dict[str, str] = {}
        self._bytes = 0
        self.files: list[str] = []
        """Names of the files that were written."""

    def add(self, kind: str, number: int, rows: list[dict[str, Any]]) -> None:
        """`kind-number`, numbers from 1. Raises StorageError."""
        # ASCII, and no character that could end a script: the words in it are strangers'.
        text = json.dumps(rows, separators=(",", ":"), allow_nan=False)
        for sign in "<>&":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        self._kept[f"{kind}-{number}"] = text
        self._bytes += len(text)
        if self._bytes > self._within_page_bytes:
            self._write()

    def kept(self) -> Iterator[tuple[str, str]]:
        """Those that the page has to hold: name and JSON."""
        yield from self._kept.items()

    def _write(self) -> None:
        for name, text in self._kept.items():
            file = f"{name}.js"
            self._destination.write(file, f'fundusPart("{name}","{self.generation}",{text});\n'.encode("ascii"))
            self.files.append(file)
        self._kept.clear()
