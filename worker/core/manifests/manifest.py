"""Read references from a manifest: a CSV with a header, or JSON lines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from worker.core.allowed_roots import AllowedRoots
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.admission import Door, check_allowed, manifest_roots
from worker.core.manifests.canonical_uri import canonical_path, canonical_uri
from worker.core.manifests.fields import (
    parse_eye,
    parse_grade,
    parse_image_id,
    parse_patient_id,
    parse_sha256,
    require_printable,
)
from worker.core.manifests.image_reference import Reference, Remark
from worker.core.manifests.personal_data import refuse_personal
from worker.core.manifests.rows import MAX_COLUMNS, Row, read_rows

COLUMNS = ("uri", "image_id", "patient_id", "eye", "reference_grade", "sha256")

T = TypeVar("T")


def read_manifest(path: Path, remark: Remark, door: Door) -> Iterator[Reference]:
    """One reference per row, streaming. A relative uri starts at the manifest's folder.

    Columns that are not in `COLUMNS` are left out and named to `remark` once. Raises SourceError that names the file,
    the line and the column of the first fault; a uri that leads where no manifest may, and a column that looks as if it
    named a person, are faults.
    """
    path = canonical_path(path)
    roots = manifest_roots(door, path.parent)
    unknown: set[str] = set()
    for row in read_rows(path, needs=[("uri",)]):
        extra = row.cells.keys() - COLUMNS - unknown
        if extra:
            unknown |= extra
            refuse_personal(row.where, extra - door.allowed_columns)
            if len(unknown) > MAX_COLUMNS:
                raise SourceError(f"{row.where}: {len(unknown)} unknown columns so far, the limit is {MAX_COLUMNS}")
            remark(f"{row.where}: unknown columns are left out: {', '.join(sorted(extra))[:200]}")
        yield _reference(row, path.parent, roots)


def _reference(row: Row, folder: Path, roots: AllowedRoots) -> Reference:
    return Reference(
        uri=_cell(row, "uri", lambda text: _uri(text, folder, roots)),
        image_id=_cell(row, "image_id", parse_image_id),
        patient_id=_cell(row, "patient_id", parse_patient_id),
        eye=_cell(row, "eye", parse_eye),
        reference_grade=_cell(row, "reference_grade", parse_grade),
        sha256=_cell(row, "sha256", parse_sha256),
    )


def _cell(row: Row, column: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(require_printable(row.cells.get(column, "")))
    except ValueError as error:
        raise SourceError(f"{row.where}, column {column}: {error}") from error


def _uri(text: str, folder: Path, roots: AllowedRoots) -> str:
    if not text:
        raise ValueError("is empty")
    uri = canonical_uri(text, folder=folder)
    try:
        check_allowed(uri, roots)
    except ImageReferenceError as error:
        raise ValueError(error.detail) from error
    return uri
