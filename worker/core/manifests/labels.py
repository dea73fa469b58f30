"""Reference grades from a label file: matched by file name for photographs, by row order for stacks."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from worker.core.errors import SourceError
from worker.core.manifests.fields import check_printable, parse_grade
from worker.core.manifests.image_reference import ImageReference, OnWarning, is_image_name
from worker.core.manifests.personal_data import reject_personal_columns
from worker.core.manifests.rows import Row, read_rows
from worker.core.vocabulary import Grade

NAME_COLUMNS = ("id_code", "image", "image_id", "Image name")
GRADE_COLUMNS = ("diagnosis", "dr_grade", "reference_grade", "Retinopathy grade")

_MAX_NAMES_SHOWN = 3


def read_labels_by_name(path: Path, allowed_columns: Collection[str] = ()) -> dict[str, Grade]:
    """Read grades by file stem; columns as in APTOS (`id_code,diagnosis`) or IDRiD (`Image name,Retinopathy grade`).

    Rows without a grade are skipped. Raises SourceError with the line number for an invalid grade, a name with two
    different grades, or a personal column that is not in `allowed_columns`.
    """
    grades: dict[str, Grade] = {}
    for row in _read_rows(path, [NAME_COLUMNS, GRADE_COLUMNS], allowed_columns):
        stem, grade = _name(row), _grade(row)
        if grade is None:
            continue
        if grades.setdefault(stem, grade) != grade:
            raise SourceError(f"{row.where}: {stem!r} has grade {grade}, an earlier line gives {grades[stem]}")
    return grades


def read_labels_in_order(path: Path, allowed_columns: Collection[str] = ()) -> list[Grade | None]:
    """Read the grade of every row, None for an empty one. Raises SourceError as `read_labels_by_name` does."""
    return [_grade(row) for row in _read_rows(path, [GRADE_COLUMNS], allowed_columns)]


def attach_labels(
    references: Iterator[ImageReference], labels: Path, on_warning: OnWarning, allowed_columns: Collection[str] = ()
) -> Iterator[ImageReference]:
    """Yield each reference, with the grade that `labels` has for its file stem.

    At the end, `on_warning` receives the number of labels without an image and of images without a label.
    Raises SourceError if one label matches two images.
    """
    grades = read_labels_by_name(labels, allowed_columns)
    matched: dict[str, str] = {}
    unlabelled = 0
    for reference in references:
        stem = _stem(unquote(reference.uri))
        grade = grades.get(stem)
        if grade is None:
            unlabelled += 1
            yield reference
            continue
        other = matched.setdefault(stem, reference.uri)
        if other != reference.uri:
            raise SourceError(f"{labels}: label {stem!r} matches both {other} and {reference.uri}")
        yield replace(reference, reference_grade=grade)
    missing = sorted(grades.keys() - matched.keys())
    if missing:
        on_warning(f"labels of {labels} that match no image: {len(missing)} ({_some(missing)})")
    if unlabelled:
        on_warning(f"images without a label in {labels}: {unlabelled}")


def _read_rows(path: Path, needs: list[Collection[str]], allowed_columns: Collection[str]) -> Iterator[Row]:
    columns: frozenset[str] = frozenset()
    for row in read_rows(path, needs=needs):
        if row.cells.keys() != columns:
            columns = frozenset(row.cells)
            reject_personal_columns(row.where, columns - set(allowed_columns))
        yield row


def _name(row: Row) -> str:
    try:
        name = check_printable(row.first_of(NAME_COLUMNS))
    except ValueError as error:
        raise SourceError(f"{row.where}: {error}") from error
    return _stem(name) if is_image_name(name) else name


def _grade(row: Row) -> Grade | None:
    try:
        return parse_grade(row.first_of(GRADE_COLUMNS))
    except ValueError as error:
        raise SourceError(f"{row.where}: {error}") from error


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (", ..." if len(names) > _MAX_NAMES_SHOWN else "")
