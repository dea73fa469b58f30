"""Find runs in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select

from worker.core.errors import RunError
from worker.core.vocabulary import Queue, RunKind, RunState
from worker.ledger.database import read_transaction
from worker.ledger.schema import nights, runs

ENDED_STATES = (RunState.FINISHED, RunState.CANCELLED)
"""States of a run that has ended; new or requeued images reopen a finished run."""

_MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the table `runs`."""

    run_id: int
    name: str
    kind: RunKind
    state: RunState
    queue: Queue
    source: str
    chunk_size: int
    model_id: str | None
    created_at: datetime
    sealed_at: datetime | None
    finished_at: datetime | None
    held: bool = False
    precision: str | None = None
    """The only precision in which workers may grade the run; None admits every precision."""
    site: str | None = None
    """Where the photographs were taken."""


def find_run(engine: Engine, name: str) -> Run:
    """Find a run by name. Raises RunError, naming the latest runs, when it does not exist."""
    with read_transaction(engine) as connection:
        run = select_run(connection, name)
        if run is None:
            latest = connection.scalars(select(runs.c.name).order_by(runs.c.run_id.desc()).limit(_MAX_LISTED)).all()
            raise RunError(f"no run {name!r}; {join_or('the latest runs are', latest, 'the ledger has no runs yet')}")
    return run


def list_runs(engine: Engine, count: int, *, before: int | None = None, after: int | None = None) -> list[Run]:
    """Return at most `count` runs, newest first: the latest, or those next before or after a run id."""
    query = select(runs).limit(count)
    if after is not None:
        query = query.where(runs.c.run_id > after).order_by(runs.c.run_id)
    else:
        query = query.order_by(runs.c.run_id.desc())
        if before is not None:
            query = query.where(runs.c.run_id < before)
    with read_transaction(engine) as connection:
        found = [run_from_row(row) for row in connection.execute(query)]
    return found if after is None else found[::-1]


def select_run(connection: Connection, name: str, *, lock: bool = False) -> Run | None:
    """Find a run by name within a transaction. lock: also lock its row, as `lock_run` does."""
    query = select(runs).where(runs.c.name == name)
    row = connection.execute(query.with_for_update(key_share=True) if lock else query).first()
    return None if row is None else run_from_row(row)


def lock_run(connection: Connection, run_id: int) -> RunState:
    """Lock the row of a run until the transaction ends, and return its state.

    Lock the row before you change the state of a run or queue images in it, and read other rows in a later statement:
    on PostgreSQL, a statement that waits for a lock sees other rows as they were before it waited.
    """
    query = select(runs.c.state).where(runs.c.run_id == run_id).with_for_update(key_share=True)
    return RunState(connection.execute(query).scalar_one())


def lock_night(connection: Connection, run_id: int) -> None:
    """Lock the night of a run, if it is one, until the transaction ends; after the run's row if both are locked."""
    connection.execute(select(nights.c.run_id).where(nights.c.run_id == run_id).with_for_update(key_share=True))


def join_or(intro: str, names: Sequence[str], empty: str) -> str:
    """Join the names and put the intro first; return `empty` when there are no names."""
    return f"{intro} {', '.join(names)}" if names else empty


def run_from_row(row: Any) -> Run:
    """Convert a row of the table `runs`."""
    values = row._asdict()
    return Run(
        **values | {"kind": RunKind(row.kind), "state": RunState(row.state), "queue": Queue(row.queue)},
    )
