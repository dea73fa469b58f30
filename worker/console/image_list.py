"""A run's images a page at a time, by their ids: the last page comes as fast as the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, select

from worker.console.filters import Filter, conditions, is_unsure
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import with_final_grades
from worker.ledger.review_schema import reviews
from worker.ledger.schema import gradings, images

PAGE_IMAGES = 50
COUNTED_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """`after` and `before` lead to neighbouring pages, None where there is none; `count` None: more than counted."""

    rows: Sequence[Any]
    before: str | None
    after: str | None
    count: int | None


def read_page(engine: Engine, run_id: int, wanted: Filter, place: Mapping[str, str]) -> Page:
    """Up to PAGE_IMAGES rows after the id `place["after"]`, or the last ones before `place["before"]`."""
    query = _rows(run_id, wanted)
    backwards = place.get("before")
    if backwards:
        query = query.where(gradings.c.image_id < backwards).order_by(gradings.c.image_id.desc())
    else:
        query = query.where(gradings.c.image_id > place.get("after", "")).order_by(gradings.c.image_id)
    with read_transaction(engine) as connection:
        found = list(connection.execute(query.limit(PAGE_IMAGES + 1)))
        count = _count(connection, run_id, wanted)
    more, rows = len(found) > PAGE_IMAGES, found[:PAGE_IMAGES]
    if backwards:
        rows.reverse()
    earlier, later = (more, bool(rows)) if backwards else (bool(place.get("after")) and bool(rows), more)
    return Page(rows, rows[0].image_id if earlier else None, rows[-1].image_id if later else None, count)


def neighbours(engine: Engine, run_id: int, wanted: Filter, image_id: str) -> tuple[str | None, str | None]:
    """The ids before and after one among the images asked for."""
    query = _joined(select(gradings.c.image_id), run_id, wanted).limit(1)
    with read_transaction(engine) as connection:
        before = connection.scalar(query.where(gradings.c.image_id < image_id).order_by(gradings.c.image_id.desc()))
        after = connection.scalar(query.where(gradings.c.image_id > image_id).order_by(gradings.c.image_id))
    return before, after


def _rows(run_id: int, wanted: Filter) -> Select[Any]:
    query = select(
        gradings.c.image_id,
        images.c.uri,
        images.c.patient_id,
        images.c.eye,
        images.c.reference_grade,
        gradings.c.status,
        gradings.c.grade,
        gradings.c.referable,
        gradings.c.error_code,
        is_unsure(run_id).label("unsure"),
    )
    return with_final_grades(query.join(images, images.c.image_id == gradings.c.image_id)).where(
        *_wanted(run_id, wanted)
    )


def _joined(query: Select[Any], run_id: int, wanted: Filter) -> Select[Any]:
    return (
        query.join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id))
        .where(*_wanted(run_id, wanted))
    )


def _wanted(run_id: int, wanted: Filter) -> list[ColumnElement[bool]]:
    return [gradings.c.run_id == run_id, *conditions(wanted, run_id)]


def _count(connection: Connection, run_id: int, wanted: Filter) -> int | None:
    some = _joined(select(gradings.c.image_id), run_id, wanted).limit(COUNTED_AT_MOST + 1).subquery()
    count = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return count if count <= COUNTED_AT_MOST else None
