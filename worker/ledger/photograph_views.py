"""The part of the audit trail that records who viewed which photograph; retention deletes it by age."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select

from worker.core.vocabulary import AuditAction, Picture
from worker.ledger.audit_log import read_latest, record_action
from worker.ledger.database import write_transaction
from worker.ledger.review_schema import photograph_views
from worker.ledger.schema import runs

PAGE_VIEWS = 1000


def record_view(engine: Engine, *, viewer: str, run: str, image_id: str, picture: Picture) -> None:
    """Record that a console user views a picture; call it before the picture is sent. Raises DatabaseError."""
    row = {"at": datetime.now(UTC), "viewer": viewer, "run": run, "image_id": image_id, "picture": picture}
    with write_transaction(engine) as connection:
        # Inline: RETURNING the new row's id would need the right to read the views.
        connection.execute(insert(photograph_views).inline().values(row))


def read_views(engine: Engine, *, run: str | None, last: int) -> Iterator[dict[str, Any]]:
    """Yield the latest `last` views of one run or of all runs, oldest first, as JSON types. Raises DatabaseError."""
    return read_latest(engine, photograph_views, photograph_views.c.view_id, run=run, last=last)


def is_view_expired(cutoff: datetime) -> ColumnElement[bool]:
    """Build the condition for an expired view; those of held runs never are."""
    held = select(runs.c.name).where(runs.c.held)
    return (photograph_views.c.at < cutoff) & photograph_views.c.run.not_in(held)


def delete_expired_views(connection: Connection, cutoff: datetime) -> int:
    """Delete the oldest expired views, at most PAGE_VIEWS; return their number."""
    oldest = select(photograph_views.c.view_id).where(is_view_expired(cutoff)).order_by(photograph_views.c.at)
    page = connection.scalars(oldest.limit(PAGE_VIEWS)).all()
    if page:
        connection.execute(delete(photograph_views).where(photograph_views.c.view_id.in_(page)))
        record_action(connection, AuditAction.DELETE_VIEWS, views=len(page))
    return len(page)
