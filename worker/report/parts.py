"""Split the lists of a report into parts that the page loads on demand.

Parts are scripts, because a page opened from a folder can load scripts but not JSON. The parts of a small report are
embedded in the page, so that the report is a single file.
"""

import json
from collections.abc import Iterator
from typing import Any

from worker.report.destination import Destination


class ReportParts:
    """Holds parts up to `within_page_bytes` for embedding in the page; beyond that, writes each one to a file."""

    def __init__(self, destination: Destination, generation: str, *, within_page_bytes: int) -> None:
        self._destination = destination
        self.generation = generation
        """Identifier of this report in every part: the page rejects parts of another report."""
        self._within_page_bytes = within_page_bytes
        self._embedded: dict[str, str] = {}
        self._bytes = 0
        self.files: list[str] = []
        """Names of the files written."""

    def add(self, kind: str, number: int, rows: list[dict[str, Any]]) -> None:
        """Add the part `kind-number`; numbers start at 1. Raises StorageError."""
        text = encode_for_script(rows)
        self._embedded[f"{kind}-{number}"] = text
        self._bytes += len(text)
        if self._bytes > self._within_page_bytes:
            self._write()

    def embedded(self) -> Iterator[tuple[str, str]]:
        """Yield name and JSON of each part to embed in the page."""
        yield from self._embedded.items()

    def _write(self) -> None:
        for name, text in self._embedded.items():
            file = f"{name}.js"
            self._destination.write(file, f'fundusPart("{name}","{self.generation}",{text});\n'.encode("ascii"))
            self.files.append(file)
        self._embedded.clear()


def encode_for_script(value: Any) -> str:
    """Encode a value as ASCII JSON without `<`, `>` and `&`, so that untrusted text cannot end a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
