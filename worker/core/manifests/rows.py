"""Read the rows of a CSV or JSON-lines file, one at a time and bounded, each with the place it came from."""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.core.errors import SourceError

ROW_SUFFIXES = (".csv", ".jsonl")
MAX_LINE_CHARS = 2**20
MAX_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row by column name, stripped; `where` names the file and the line."""

    where: str
    cells: dict[str, str]

    def pick(self, columns: Collection[str]) -> str:
        """The first of these columns that the row has."""
        return next(self.cells[column] for column in columns if column in self.cells)


def read_rows(path: Path, *, needs: Sequence[Collection[str]]) -> Iterator[Row]:
    """The rows of a `.csv` with a header, or of a `.jsonl`; UTF-8, with or without a byte order mark.

    needs: for each entry, one of these columns must be there. Empty lines are passed over, and so are the empty cells
    at the end of a CSV's lines that spreadsheets leave there.
    Raises SourceError, naming file and line, for a file that cannot be read, is not UTF-8, or whose rows are malformed.
    """
    read = _read_json if path.suffix.lower() == ".jsonl" else _read_csv
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from read(path, file, needs)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error


def _read_csv(path: Path, file: IO[str], needs: Sequence[Collection[str]]) -> Iterator[Row]:
    reader = csv.reader(_lines(path, file), strict=True)
    header: list[str] | None = None
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num}: {error}") from error
        where = f"{path}, line {reader.line_num}"
        if values is None:
            break
        cells = [value.strip() for value in values]
        if not any(cells):
            continue
        if header is None:
            header = _checked_header(where, _without_empty_end(cells, keep=0), needs)
        elif len(cells := _without_empty_end(cells, keep=len(header))) != len(header):
            raise SourceError(f"{where}: {len(cells)} cells, the header has {len(header)} columns")
        else:
            yield Row(where, dict(zip(header, cells, strict=True)))
    if header is None:
        raise SourceError(f"{path} is empty: the first line must name the columns")


def _without_empty_end(cells: list[str], *, keep: int) -> list[str]:
    """The cells without empty ones at the end, but at least `keep` of them where there are so many."""
    kept = len(cells)
    while kept > keep and not cells[kept - 1]:
        kept -= 1
    return cells[:kept]


def _checked_header(where: str, columns: list[str], needs: Sequence[Collection[str]]) -> list[str]:
    if len(columns) > MAX_COLUMNS:
        raise SourceError(f"{where}: {len(columns)} columns, the limit is {MAX_COLUMNS}")
    twice = {column for column in columns if columns.count(column) > 1}
    if twice:
        raise SourceError(f"{where}: column {min(twice)!r} is there twice")
    _require(where, columns, needs)
    return columns


def _read_json(path: Path, file: IO[str], needs: Sequence[Collection[str]]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path, file), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: not JSON: {error}") from error
        if not isinstance(document, dict) or len(document) > MAX_COLUMNS:
            raise SourceError(f"{where}: needs one object of at most {MAX_COLUMNS} names")
        _require(where, document, needs)
        yield Row(where, {column: _cell(where, column, value) for column, value in document.items()})


def _cell(where: str, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise SourceError(f"{where}, column {column}: needs a text or a whole number, got {json.dumps(value)[:80]}")


def _require(where: str, columns: Collection[str], needs: Sequence[Collection[str]]) -> None:
    for names in needs:
        if not any(name in columns for name in names):
            raise SourceError(f"{where}: no column {' or '.join(names)}; there are: {', '.join(columns)[:200]}")


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE_CHARS + 1)
        except UnicodeDecodeError as error:
            # The decoder reads ahead, so the fault lies in this line or soon after.
            raise SourceError(f"{path}, at or after line {number}: not UTF-8 ({error.reason})") from error
        if not line:
            return
        if len(line) > MAX_LINE_CHARS:
            raise SourceError(f"{path}, line {number}: longer than {MAX_LINE_CHARS} characters")
        yield line
