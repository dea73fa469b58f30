"""A report's long lists, cut into parts that the page loads when it needs them.

A part is a script, for a page that was opened from a folder may load those and nothing else. The parts of a small
report are held in the page itself, which is then one file.
"""

import json
from collections.abc import Iterator
from typing import Any

from worker.report.destination import Place


class Parts:
    """Keeps the parts until they are more than a page should hold, and writes them to their place from then on."""

    def __init__(self, place: Place, generation: str, *, within_page_bytes: int) -> None:
        self._place = place
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
            self._place.write(file, f'fundusPart("{name}","{self.generation}",{text});\n'.encode("ascii"))
            self.files.append(file)
        self._kept.clear()
