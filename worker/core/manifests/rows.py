"""Read CSV and JSON-lines files row by row, with limits on line length and columns."""

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
    """Stripped cells of one row by column name; `where` is the file and line for error messages."""

    where: str
    cells: dict[str, str]

    def first_of(self, columns: Collection[str]) -> str:
        """Return the cell of the first of these columns that the row has."""
        return next(self.cells[column] for column in columns if column in self.cells)


def read_rows(path: Path, *, needs: Sequence[Collection[str]]) -> Iterator[Row]:
    """Yield the rows of a `.csv` file with a header or a `.jsonl` file, in UTF-8 with or without a byte order mark.

    needs: groups of column names; of each group at least one column must exist.
    Empty lines are skipped, and so are empty cells at the end of CSV lines, which spreadsheets add.
    Raises SourceError with file and line if the file cannot be read, is not UTF-8 or has a malformed row.
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
            header = _checked_header(where, _strip_empty_end(cells, keep=0), needs)
        elif len(cells := _strip_empty_end(cells, keep=len(header))) != len(header):
            raise SourceError(f"{where}: {len(cells)} cells, the header has {len(header)} columns")
        else:
            yield Row(where, dict(zip(header, cells, strict=True)))
    if header is None:
        raise SourceError(f"{path} is empty; the first line must be a header")


def _strip_empty_end(cells: list[str], *, keep: int) -> list[str]:
    """Remove empty cells at the end, but keep the first `keep` cells."""
    kept = len(cells)
    while kept > keep and not cells[kept - 1]:
        kept -= 1
    return cells[:kept]


def _checked_header(where: str, columns: list[str], needs: Sequence[Collection[str]]) -> list[str]:
    if len(columns) > MAX_COLUMNS:
        raise SourceError(f"{where}: {len(columns)} columns, the limit is {MAX_COLUMNS}")
    twice = {column for column in columns if columns.count(column) > 1}
    if twice:
        raise SourceError(f"{where}: duplicate column {min(twice)!r}")
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
            raise SourceError(f"{where}: must be one object of at most {MAX_COLUMNS} keys")
        _require(where, document, needs)
        yield Row(where, {column: _cell(where, column, value) for column, value in document.items()})


def _cell(where: str, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise SourceError(f"{where}, column {column}: must be a string or an integer, got {json.dumps(value)[:80]}")


def _require(where: str, columns: Collection[str], needs: Sequence[Collection[str]]) -> None:
    for names in needs:
        if not any(name in columns for name in names):
            raise SourceError(
                f"{where}: missing column {' or '.join(names)}; the columns are {', '.join(columns)[:200]}"
            )


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE_CHARS + 1)
        except UnicodeDecodeError as error:
            # The decoder reads ahead, so the invalid byte is in this line or soon after.
            raise SourceError(f"{path}, at or after line {number}: not UTF-8 ({error.reason})") from error
        if not line:
            return
        if len(line) > MAX_LINE_CHARS:
            raise SourceError(f"{path}, line {number}: longer than {MAX_LINE_CHARS} characters")
        yield line
