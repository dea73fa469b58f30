"""Read image references from a manifest: a CSV file with a header, or JSON lines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from worker.core.allowed_roots import AllowedRoots
from worker.core.errors import ImageReferenceError, SourceError
from worker.core.manifests.admission import AdmissionPolicy, check_allowed, manifest_roots
from worker.core.manifests.canonical_uri import canonical_path, canonical_uri
from worker.core.manifests.fields import (
    check_printable,
    parse_eye,
    parse_grade,
    parse_image_id,
    parse_patient_id,
    parse_sha256,
    parse_source,
)
from worker.core.manifests.image_reference import ImageReference, OnWarning
from worker.core.manifests.personal_data import reject_personal_columns
from worker.core.manifests.rows import MAX_COLUMNS, Row, read_rows

COLUMNS = ("uri", "image_id", "patient_id", "eye", "reference_grade", "sha256", "source")

T = TypeVar("T")


def read_manifest(path: Path, on_warning: OnWarning, policy: AdmissionPolicy) -> Iterator[ImageReference]:
    """Yield one reference per row. A relative uri is relative to the manifest's folder.

    Columns other than `COLUMNS` are ignored; `on_warning` receives their names once.
    Raises SourceError with file, line and column of the first invalid cell. A uri outside the allowed roots and a
    personal column that the policy does not allow are invalid.
    """
    path = canonical_path(path)
    roots = manifest_roots(policy, path.parent)
    unknown: set[str] = set()
    for row in read_rows(path, needs=[("uri",)]):
        extra = row.cells.keys() - COLUMNS - unknown
        if extra:
            unknown |= extra
            reject_personal_columns(row.where, extra - policy.allowed_columns)
            if len(unknown) > MAX_COLUMNS:
                raise SourceError(f"{row.where}: {len(unknown)} unknown columns so far, the limit is {MAX_COLUMNS}")
            on_warning(f"{row.where}: unknown columns are ignored: {', '.join(sorted(extra))[:200]}")
        yield _reference(row, path.parent, roots)


def _reference(row: Row, folder: Path, roots: AllowedRoots) -> ImageReference:
    return ImageReference(
        uri=_cell(row, "uri", lambda text: _uri(text, folder, roots)),
        image_id=_cell(row, "image_id", parse_image_id),
        patient_id=_cell(row, "patient_id", parse_patient_id),
        eye=_cell(row, "eye", parse_eye),
        reference_grade=_cell(row, "reference_grade", parse_grade),
        sha256=_cell(row, "sha256", parse_sha256),
        source=_cell(row, "source", parse_source),
    )


def _cell(row: Row, column: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(check_printable(row.cells.get(column, "")))
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
