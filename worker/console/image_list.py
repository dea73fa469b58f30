"""Page through the images of a run by image id or by urgency.

Keyset pagination keeps the last page as fast as the first. By urgency, the key is the number of a group and the image
id; an index answers each group, so that no page sorts the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, false, func, select, true

from worker.console.disclosure import HiddenResults
from worker.console.filters import URGENCY, ImageFilter, filter_conditions, is_low_confidence
from worker.core.vocabulary import Status
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


def read_page(
    engine: Engine,
    run_id: int,
    image_filter: ImageFilter,
    cursor: Mapping[str, str],
    hidden: HiddenResults | None = None,
) -> ImagePage:
    """Return up to PAGE_IMAGES rows after the key `cursor["after"]`, or the last ones before `cursor["before"]`.

    hidden: model results that the reader may not see yet. Their rows have a true `hidden`; a filter or an order that
    depends on the result leaves them out.
    """
    backwards = bool(cursor.get("before"))
    given = cursor.get("before") or cursor.get("after", "")
    position = _parse_position(given, image_filter)
    with read_transaction(engine) as connection:
        query = _rows(run_id, image_filter, hidden)
        found = _read_in_order(connection, query, image_filter, position, PAGE_IMAGES + 1, backwards=backwards)
        count = _count(connection, run_id, image_filter, hidden)
    more, shown = len(found) > PAGE_IMAGES, found[:PAGE_IMAGES]
    if backwards:
        shown.reverse()
    earlier, later = (more, bool(shown)) if backwards else (bool(given) and bool(shown), more)
    keys = [_format_position(group, row.image_id, image_filter) for group, row in (shown[:1] + shown[-1:])]
    return ImagePage([row for _, row in shown], keys[0] if earlier else None, keys[-1] if later else None, count)


def find_neighbours(
    engine: Engine, run_id: int, image_filter: ImageFilter, image_id: str, hidden: HiddenResults | None = None
) -> tuple[str | None, str | None]:
    """Return the ids before and after an image among those that match the filter, in its order."""
    query = _joined(select(gradings.c.image_id), run_id, image_filter, hidden)
    with read_transaction(engine) as connection:
        position = _find_position(connection, run_id, image_filter, image_id)
        before, after = (
            _read_in_order(connection, query, image_filter, position, 1, backwards=backwards)
            for backwards in (True, False)
        )
    return (before[0][1].image_id if before else None), (after[0][1].image_id if after else None)


def _groups(image_filter: ImageFilter) -> Sequence[ColumnElement[bool]]:
    """Return the conditions of the groups of a list, in order; each image is in exactly one."""
    if image_filter.sort != URGENCY:
        return [true()]
    return [
        _graded(4),
        _graded(3),
        _graded(2),
        gradings.c.status == Status.UNGRADABLE,
        gradings.c.status.in_((Status.FAILED, Status.QUARANTINED)),
        _graded(1),
        _graded(0),
        gradings.c.status.in_((Status.QUEUED, Status.CANCELLED)),
    ]


def _graded(grade: int) -> ColumnElement[bool]:
    return and_(gradings.c.status == Status.GRADED, gradings.c.grade == grade)


def _read_in_order(
    connection: Connection,
    query: Select[Any],
    image_filter: ImageFilter,
    position: tuple[int, str],
    limit: int,
    *,
    backwards: bool,
) -> list[tuple[int, Any]]:
    """Return up to `limit` rows after, or before, a position: the number of the group, and the row."""
    groups = list(enumerate(_groups(image_filter)))
    group, image_id = position
    order = gradings.c.image_id.desc() if backwards else gradings.c.image_id
    found: list[tuple[int, Any]] = []
    for number, condition in reversed(groups[: group + 1]) if backwards else groups[group:]:
        rows = query.where(condition).order_by(order).limit(limit - len(found))
        if number == group:
            rows = rows.where(gradings.c.image_id < image_id if backwards else gradings.c.image_id > image_id)
        found += [(number, row) for row in connection.execute(rows)]
        if len(found) == limit:
            break
    return found


def _find_position(connection: Connection, run_id: int, image_filter: ImageFilter, image_id: str) -> tuple[int, str]:
    if image_filter.sort != URGENCY:
        return 0, image_id
    of_image = select(gradings.c.image_id).where(gradings.c.run_id == run_id, gradings.c.image_id == image_id)
    group = (number for number, one in enumerate(_groups(image_filter)) if connection.scalar(of_image.where(one)))
    return next(group, 0), image_id


def _parse_position(cursor: str, image_filter: ImageFilter) -> tuple[int, str]:
    if image_filter.sort != URGENCY:
        return 0, cursor
    group, _, image_id = cursor.partition(".")
    known = group.isascii() and group.isdigit() and int(group[:4]) < len(_groups(image_filter))
    return (int(group[:4]), image_id) if known else (0, "")


def _format_position(group: int, image_id: str, image_filter: ImageFilter) -> str:
    return f"{group}.{image_id}" if image_filter.sort == URGENCY else str(image_id)


def _rows(run_id: int, image_filter: ImageFilter, hidden: HiddenResults | None) -> Select[Any]:
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
        (false() if hidden is None else hidden.condition).label("hidden"),
    )
    return with_final_grades(query.join(images, images.c.image_id == gradings.c.image_id)).where(
        *_conditions(run_id, image_filter, hidden)
    )


def _joined(query: Select[Any], run_id: int, image_filter: ImageFilter, hidden: HiddenResults | None) -> Select[Any]:
    return (
        query.join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id))
        .where(*_conditions(run_id, image_filter, hidden))
    )


def _conditions(run_id: int, image_filter: ImageFilter, hidden: HiddenResults | None) -> list[ColumnElement[bool]]:
    found = [gradings.c.run_id == run_id, *filter_conditions(image_filter, run_id)]
    return [*found, ~hidden.condition] if hidden is not None and image_filter.uses_result else found


def _count(connection: Connection, run_id: int, image_filter: ImageFilter, hidden: HiddenResults | None) -> int | None:
    some = _joined(select(gradings.c.image_id), run_id, image_filter, hidden).limit(COUNTED_AT_MOST + 1).subquery()
    count = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return count if count <= COUNTED_AT_MOST else None
