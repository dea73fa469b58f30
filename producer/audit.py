"""Read the audit trail."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from worker.contract.database import reading
from worker.contract.schema import audit


def read_trail(engine: Engine, *, run: str | None, last: int) -> Iterator[dict[str, Any]]:
    """The latest `last` entries, of one run or of all, oldest first, as JSON types. Raises DatabaseError."""
    query = select(audit).order_by(audit.c.audit_id.desc()).limit(last)
    if run is not None:
        query = query.where(audit.c.run == run)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    for row in reversed(rows):
        entry = row._asdict()
        at: datetime = entry.pop("at")
        yield {"at": at.isoformat(), **entry}
