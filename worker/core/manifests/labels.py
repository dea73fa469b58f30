"""Give references the grades of a label file: by file name for photographs, by order for a stack."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from worker.core.errors import SourceError
from worker.core.manifests.fields import parse_grade, require_printable
from worker.core.manifests.image_reference import Reference, Remark, is_image_name
from worker.core.manifests.personal_data import refuse_personal
from worker.core.manifests.rows import Row, read_rows
from worker.core.vocabulary import Grade

NAME_COLUMNS = ("id_code", "image", "image_id", "Image name")
GRADE_COLUMNS = ("diagnosis", "dr_grade", "reference_grade", "Retinopathy grade")

_NAMED_AT_MOST = 3


def read_labels_by_name(path: Path, allowed_columns: Collection[str] = ()) -> dict[str, Grade]:
    """Grades by file stem, in the layouts of APTOS (`id_code,diagnosis`) and IDRiD (`Image name,Retinopathy grade`).

    Rows without a grade are left out. Raises SourceError, naming the line, for a wrong grade, a name with two grades,
    or a column that looks as if it named a person and is not allowed.
    """
    grades: dict[str, Grade] = {}
    for row in _read_rows(path, [NAME_COLUMNS, GRADE_COLUMNS], allowed_columns):
        stem, grade = _name(row), _grade(row)
        if grade is None:
            continue
        if grades.setdefault(stem, grade) != grade:
            raise SourceError(f"{row.where}: {stem!r} has grade {grade} here and {grades[stem]} before")
    return grades


def read_labels_in_order(path: Path, allowed_columns: Collection[str] = ()) -> list[Grade | None]:
    """The grade of every row. Raises SourceError, naming the line, for a wrong grade or a column that is personal."""
    return [_grade(row) for row in _read_rows(path, [GRADE_COLUMNS], allowed_columns)]


def attach_labels(
    references: Iterator[Reference], labels: Path, remark: Remark, allowed_columns: Collection[str] = ()
) -> Iterator[Reference]:
    """The references, each with the grade of its file stem where `labels` has one.

    At the end, labels without an image and images without a label are counted and told to `remark`.
    Raises SourceError when one label matches two images: nobody can say whose grade it is.
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
        remark(f"labels of {labels} that match no image: {len(missing)} ({_some(missing)})")
    if unlabelled:
        remark(f"images without a label in {labels}: {unlabelled}")


def _read_rows(path: Path, needs: list[Collection[str]], allowed_columns: Collection[str]) -> Iterator[Row]:
    columns: frozenset[str] = frozenset()
    for row in read_rows(path, needs=needs):
        if row.cells.keys() != columns:
            columns = frozenset(row.cells)
            refuse_personal(row.where, columns - set(allowed_columns))
        yield row


def _name(row: Row) -> str:
    try:
        name = require_printable(row.pick(NAME_COLUMNS))
    except ValueError as error:
        raise SourceError(f"{row.where}: {error}") from error
    return _stem(name) if is_image_name(name) else name


def _grade(row: Row) -> Grade | None:
    try:
        return parse_grade(row.pick(GRADE_COLUMNS))
    except ValueError as error:
        raise SourceError(f"{row.where}: {error}") from error


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_AT_MOST]) + (", ..." if len(names) > _NAMED_AT_MOST else "")
