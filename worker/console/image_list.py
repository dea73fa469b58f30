"""Page through the images of a run by image id. Keyset pagination keeps the last page as fast as the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, select

from worker.console.filters import ImageFilter, filter_conditions, is_low_confidence
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import with_final_grades
from worker.ledger.review_schema import reviews
from worker.ledger.schema import gradings, images

PAGE_IMAGES = 50
COUNTED_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class ImagePage:
    """One page. `before` and `after` are the cursors of the neighbouring pages, None at either end.

    `count` is the number of matching images; None if there are more than COUNTED_AT_MOST.
    """

    rows: Sequence[Any]
    before: str | None
    after: str | None
    count: int | None


def read_page(engine: Engine, run_id: int, image_filter: ImageFilter, cursor: Mapping[str, str]) -> ImagePage:
    """Return up to PAGE_IMAGES rows after the id `cursor["after"]`, or the last ones before `cursor["before"]`."""
    query = _rows(run_id, image_filter)
    backwards = cursor.get("before")
    if backwards:
        query = query.where(gradings.c.image_id < backwards).order_by(gradings.c.image_id.desc())
    else:
        query = query.where(gradings.c.image_id > cursor.get("after", "")).order_by(gradings.c.image_id)
    with read_transaction(engine) as connection:
        found = list(connection.execute(query.limit(PAGE_IMAGES + 1)))
        count = _count(connection, run_id, image_filter)
    more, rows = len(found) > PAGE_IMAGES, found[:PAGE_IMAGES]
    if backwards:
        rows.reverse()
    earlier, later = (more, bool(rows)) if backwards else (bool(cursor.get("after")) and bool(rows), more)
    return ImagePage(rows, rows[0].image_id if earlier else None, rows[-1].image_id if later else None, count)


def find_neighbours(
    engine: Engine, run_id: int, image_filter: ImageFilter, image_id: str
) -> tuple[str | None, str | None]:
    """Return the ids before and after an image among those that match the filter."""
    query = _joined(select(gradings.c.image_id), run_id, image_filter).limit(1)
    with read_transaction(engine) as connection:
        before = connection.scalar(query.where(gradings.c.image_id < image_id).order_by(gradings.c.image_id.desc()))
        after = connection.scalar(query.where(gradings.c.image_id > image_id).order_by(gradings.c.image_id))
    return before, after


def _rows(run_id: int, image_filter: ImageFilter) -> Select[Any]:
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
        is_low_confidence(run_id).label("unsure"),
    )
    return with_final_grades(query.join(images, images.c.image_id == gradings.c.image_id)).where(
        *_conditions(run_id, image_filter)
    )


def _joined(query: Select[Any], run_id: int, image_filter: ImageFilter) -> Select[Any]:
    return (
        query.join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id))
        .where(*_conditions(run_id, image_filter))
    )


def _conditions(run_id: int, image_filter: ImageFilter) -> list[ColumnElement[bool]]:
    return [gradings.c.run_id == run_id, *filter_conditions(image_filter, run_id)]


def _count(connection: Connection, run_id: int, image_filter: ImageFilter) -> int | None:
    some = _joined(select(gradings.c.image_id), run_id, image_filter).limit(COUNTED_AT_MOST + 1).subquery()
    count = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return count if count <= COUNTED_AT_MOST else None
