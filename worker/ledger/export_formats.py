"""Write exported rows as CSV, JSON lines or Parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from worker.core.errors import UsageError
from worker.core.storage.private_file import create_file
from worker.ledger.export_columns import COLUMNS, EXPORT_COLUMNS, ColumnType

WritePage = Callable[[Sequence[dict[str, Any]]], object]
"""Function that writes one page of rows, each a dict by column name."""


class ExportFormat(StrEnum):
    """File format of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    FHIR = "fhir"
    """Not a table; see `fhir_export`."""


SUFFIXES = {
    ".csv": ExportFormat.CSV,
    ".jsonl": ExportFormat.JSONL,
    ".parquet": ExportFormat.PARQUET,
    ".ndjson": ExportFormat.FHIR,
}
"""Formats by the suffix of a file name."""


def choose_format(path: Path, wanted: ExportFormat | None) -> ExportFormat:
    """Return the format that the suffix of a file name says, or the wanted one for a name without a known suffix.

    Raises UsageError if name and wish differ, or if neither says a format.
    """
    named = SUFFIXES.get(path.suffix.lower())
    if named is None and wanted is None:
        raise UsageError(f"{path} does not say its format; fix: end it with {', '.join(SUFFIXES)}, or add --format")
    if named is not None and wanted is not None and named != wanted:
        suffix = next(suffix for suffix, fmt in SUFFIXES.items() if fmt == wanted)
        raise UsageError(f"{path} would contain {wanted}; fix: name it {suffix}, or leave --format out")
    return named or wanted or ExportFormat.CSV


def open_writer(fmt: ExportFormat, path: Path) -> AbstractContextManager[WritePage]:
    """Open a new file for a table; the context finishes it on exit. fmt: any but FHIR.

    Raises OSError, also for a file that exists, and UsageError when the library for Parquet is missing.
    """
    return {ExportFormat.CSV: _csv, ExportFormat.JSONL: _json_lines, ExportFormat.PARQUET: _parquet}[fmt](path)


@contextmanager
def _csv(path: Path) -> Iterator[WritePage]:
    """Write None as an empty cell, booleans as `true` or `false`, and times as ISO 8601 in UTC."""
    with create_file(path, "x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda page: writer.writerows([_csv_cell(row[column]) for column in COLUMNS] for row in page)


@contextmanager
def _json_lines(path: Path) -> Iterator[WritePage]:
    with create_file(path, "x", encoding="utf-8") as file:
        yield lambda page: file.writelines(
            json.dumps({column: row[column] for column in COLUMNS}, default=datetime.isoformat, ensure_ascii=False)
            + "\n"
            for row in page
        )


@contextmanager
def _parquet(path: Path) -> Iterator[WritePage]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise UsageError(
            "Parquet needs the extra `worker`: pip install 'fundus-grading[worker]', or choose csv or jsonl",
            code="extra_missing",
        ) from error
    kinds = {
        ColumnType.TEXT: pa.string(),
        ColumnType.INTEGER: pa.int16(),
        ColumnType.NUMBER: pa.float32(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.TIME: pa.timestamp("us", tz="UTC"),
    }
    fields = [(column.name, kinds[column.type]) for column in EXPORT_COLUMNS]
    schema = pa.schema(fields, metadata={"pandas": json.dumps(_describe_for_pandas())})
    with create_file(path, "xb") as file, ParquetWriter(file, schema) as writer:
        yield lambda page: writer.write_table(pa.Table.from_pylist(list(page), schema=schema))


def _describe_for_pandas() -> dict[str, Any]:
    """Return the metadata by which pandas reads empty cells as NA, and not whole columns as float or object."""
    nullable = {ColumnType.INTEGER: "Int16", ColumnType.BOOLEAN: "boolean", ColumnType.NUMBER: "Float32"}
    columns = [
        {
            "name": column.name,
            "field_name": column.name,
            "pandas_type": str(column.type),
            "numpy_type": nullable[column.type],
            "metadata": None,
        }
        for column in EXPORT_COLUMNS
        if column.type in nullable
    ]
    return {"index_columns": [], "column_indexes": [], "columns": columns, "pandas_version": "1.0.0"}


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return value
