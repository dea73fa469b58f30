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

COLUMNS = (
    "image_id", "uri", "patient_id", "eye", "status", "grade", "p_ge1", "p_ge2", "p_ge3", "p_ge4", "referable", "flags",
    "disagreement", "model_id", "overlay_uri", "error_code", "error_detail", "attempts", "reference_grade", "graded_at",
    "review", "final_grade", "decided_by", "decided_at", "decisions", "outcome", "final_referable",
    "configuration_id", "program_version", "engine", "precision", "device",
    "content_sha256", "content_version", "unfamiliarity", "site", "not_validated", "findings",
)  # fmt: skip
"""Columns of every table, in order."""

WritePage = Callable[[Sequence[dict[str, Any]]], object]
"""Function that writes one page of rows, each a dict by column name."""


class ExportFormat(StrEnum):
    """File format of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    FHIR = "fhir"
    """Not a table; see `fhir_export`."""


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
        "grade": pa.int8(),
        **dict.fromkeys(("p_ge1", "p_ge2", "p_ge3", "p_ge4", "disagreement", "unfamiliarity"), pa.float32()),
        "referable": pa.bool_(),
        "attempts": pa.int16(),
        "reference_grade": pa.int8(),
        "graded_at": pa.timestamp("us", tz="UTC"),
        "final_grade": pa.int8(),
        "final_referable": pa.bool_(),
        "decided_at": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])
    with create_file(path, "xb") as file, ParquetWriter(file, schema) as writer:
        yield lambda page: writer.write_table(pa.Table.from_pylist(list(page), schema=schema))


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return value
