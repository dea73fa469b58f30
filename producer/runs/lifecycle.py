"""Open and seal runs."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, Engine, func, select, update

from worker.core.errors import RunError
from worker.core.messages import IMAGE_ID_PATTERN
from worker.core.vocabulary import AuditAction, Precision, Queue, RunKind, RunState
from worker.ledger.audit_log import record_action
from worker.ledger.completion import finish_if_settled
from worker.ledger.database import write_transaction
from worker.ledger.runs import Run, join_or, select_run
from worker.ledger.schema import gradings, models, nights, runs
from worker.ledger.site_acceptance import check_site_name
from worker.ledger.upserts import insert_or_ignore


@dataclass(frozen=True, slots=True)
class Night:
    """A night of a programme. It has one run."""

    programme: str
    date: date

    @property
    def run_name(self) -> str:
        """`PROGRAMME-YYYY-MM-DD`."""
        return f"{self.programme}-{self.date.isoformat()}"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Attributes of a run to open. None means the default for a new run and no change for an existing one."""

    name: str
    source: str
    kind: RunKind = RunKind.MANUAL
    queue: Queue | None = None
    chunk_size: int | None = None
    model_id: str | None = None
    precision: Precision | None = None
    night: Night | None = None
    site: str | None = None


def find_resumable_run(connection: Connection, request: RunRequest, *, lock: bool = False) -> Run | None:
    """Return the existing run that the request would resume, or None if it would create one.

    lock: keep the run unchanged until the transaction ends. Raises RunError for a malformed name, an unknown model, a
    cancelled run, or a kind, queue, model, precision or site other than the existing run's; UsageError for a malformed
    site.
    """
    if not re.fullmatch(IMAGE_ID_PATTERN, request.name):
        raise RunError(
            f"run name {request.name[:150]!r} must be 1 to 128 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    if request.site is not None:
        check_site_name(request.site)
    if request.model_id is not None:
        known = connection.scalars(select(models.c.model_id).order_by(models.c.registered_at)).all()
        if request.model_id not in known:
            none = "no worker has registered a model yet"
            raise RunError(f"no model {request.model_id!r}; {join_or('known models are', known, none)}")
    run = select_run(connection, request.name, lock=lock)
    if run is not None:
        _check_contradictions(run, request)
    return run


def open_run(engine: Engine, request: RunRequest, *, default_chunk_size: int) -> tuple[Run, int]:
    """Create or reopen the run; return it and the position of its next image. Raises RunError, DatabaseError."""
    row = {
        "name": request.name,
        "kind": request.kind,
        "state": RunState.OPEN,
        "queue": request.queue or Queue.BULK,
        "source": request.source,
        "chunk_size": request.chunk_size or default_chunk_size,
        "model_id": request.model_id,
        "precision": request.precision,
        "site": request.site,
        "created_at": datetime.now(UTC),
    }
    with write_transaction(engine) as connection:
        run = find_resumable_run(connection, request, lock=True)
        if run is None:
            connection.execute(insert_or_ignore(connection, runs).values(row))
            run = find_resumable_run(connection, request, lock=True)  # another producer may have created it first
        assert run is not None, "the run was just created"  # noqa: S101
        if request.night is not None:
            row = {"run_id": run.run_id, "programme": request.night.programme, "night": request.night.date}
            connection.execute(insert_or_ignore(connection, nights).values(row))
        action = AuditAction.NIGHTLY if request.kind == RunKind.NIGHTLY else AuditAction.ENQUEUE
        details = {} if request.site is None else {"site": request.site}
        record_action(connection, action, run=run.name, source=request.source, model_id=request.model_id, **details)
        requested = {"chunk_size": request.chunk_size, "model_id": request.model_id, "site": request.site}
        changed = {name: value for name, value in requested.items() if value is not None}
        connection.execute(
            update(runs).where(runs.c.run_id == run.run_id).values(state=RunState.OPEN, finished_at=None, **changed)
        )
        last = connection.scalar(select(func.max(gradings.c.position)).where(gradings.c.run_id == run.run_id))
        run = select_run(connection, request.name)
        assert run is not None, "runs are never deleted"  # noqa: S101
    return run, 0 if last is None else last + 1


def seal_run(engine: Engine, run: Run, *, report: bool = False, **counts: int) -> RunState:
    """Mark all images of the run as registered, so that it can finish; return its new state.

    A run without queued images finishes immediately. report: whether a run that finishes here gets a report. counts:
    what the enqueue did, for the audit log.
    """
    with write_transaction(engine) as connection:
        sealed = connection.execute(
            update(runs)
            .where(runs.c.run_id == run.run_id, runs.c.state == RunState.OPEN)
            .values(state=RunState.RUNNING, sealed_at=datetime.now(UTC))
        )
        # A retry after the second transaction failed must not record the action twice.
        if sealed.rowcount:
            record_action(connection, AuditAction.SEAL, run=run.name, **counts)
    with write_transaction(engine) as connection:
        finish_if_settled(connection, run.run_id, report=report)
        state = connection.execute(select(runs.c.state).where(runs.c.run_id == run.run_id)).scalar_one()
    return RunState(state)


def _check_contradictions(run: Run, request: RunRequest) -> None:
    if run.state == RunState.CANCELLED:
        raise RunError(f"run {run.name} is cancelled: choose another name")
    for attribute, has, wants in (
        ("kind", run.kind, request.kind),
        ("queue", run.queue, request.queue),
        ("model", run.model_id, request.model_id),
        ("site", run.site, request.site),
    ):
        if wants is not None and has is not None and wants != has:
            raise RunError(f"run {run.name} has {attribute} {has}, not {wants}: leave it out or choose another name")
    if request.precision not in (None, run.precision):
        # Images that are already graded may have another precision.
        raise RunError(
            f"run {run.name} was created {f'for {run.precision}' if run.precision else 'for every precision'}, not for"
            f" {request.precision}: leave it out or choose another name"
        )
