"""The audit log: who did what to which run, when, and with which version. It is append-only."""

import os
import pwd
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, insert, select

from worker import __version__
from worker.core.vocabulary import AuditAction
from worker.ledger.database import read_transaction
from worker.ledger.schema import audit_log

MAX_ACTOR_CHARS = 255


def record_action(
    connection: Connection, action: AuditAction, by: str | None = None, /, *, run: str | None = None, **details: Any
) -> None:
    """Add one row in the caller's transaction, so that an action and its row are committed together.

    by: name of the console user that this process acts for. details: JSON types; they must hold no patient id, no
    credential and no image URI.
    """
    who = actor() if by is None else f"{by} in {actor()}"[:MAX_ACTOR_CHARS]
    connection.execute(
        # Inline: RETURNING the new row's id would need the right to read the audit log.
        insert(audit_log)
        .inline()
        .values(at=datetime.now(UTC), actor=who, action=action, run=run, details=details, version=__version__)
    )


@cache
def actor() -> str:
    """Return `USER@MACHINE` for the process's real user id; environment variables are not trusted."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user may have no passwd entry
        user = f"uid-{uid}"
    return f"{user}@{socket.gethostname()}"[:MAX_ACTOR_CHARS]


def read_audit_log(engine: Engine, *, run: str | None, last: int) -> Iterator[dict[str, Any]]:
    """Yield the latest `last` entries of one run or of all runs, oldest first, as JSON types. Raises DatabaseError."""
    return read_latest(engine, audit_log, audit_log.c.audit_id, run=run, last=last)


def read_latest(
    engine: Engine, table: Table, number: ColumnElement[int], *, run: str | None, last: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a trail with the highest numbers, in their order, as JSON types. Raises DatabaseError."""
    query = select(table).order_by(number.desc()).limit(last)
    if run is not None:
        query = query.where(table.c.run == run)
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    for row in reversed(rows):
        entry = row._asdict()
        at: datetime = entry.pop("at")
        yield {"at": at.isoformat(), **entry}
