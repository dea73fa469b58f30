"""The outbox: enqueue what is to be published, and lease it to publishers.

A row is committed with the outcome or the decision that it publishes. Its publisher holds a lease, as with images: two
publishers never store an object at once, and when one dies, another one takes over. An object that ends its publisher
`max_attempts` times is refused; a failing service only makes it wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import and_, or_, select, update

from worker.core.dicom.derived_uid import derive_uid, find_instance_uid
from worker.core.vocabulary import AuditAction, PublicationKind, PublicationState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.outbox_schema import outbox
from worker.ledger.schema import gradings, images, runs
from worker.ledger.upserts import insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement, Connection, Engine, Row

    from worker.core.errors import FundusError, ServiceError

FIRST_PAUSE_S = 30.0
MAX_PAUSE_S = 3600.0
PUBLISHED_STATUSES = (Status.GRADED, Status.UNGRADABLE)
READ_KINDS = (PublicationKind.SR, PublicationKind.FHIR)
"""Kinds that a decision of the readers publishes again."""
PAGE_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class Publication:
    """One object to publish. decision_id: the decision it is about; 0 for the model's outcome.

    withdrawn: whether it says that this decision was withdrawn. failures: how often a service failed it.
    """

    outbox_id: int
    run_id: int
    image_id: str
    kind: PublicationKind
    settled_at: datetime
    decision_id: int
    withdrawn: bool
    uid: str
    failures: int


@dataclass(frozen=True, slots=True)
class PublicationLease:
    """Objects that only this publisher may publish now; may be empty."""

    token: str
    publications: tuple[Publication, ...]


def enqueue_outcomes(
    connection: Connection, run_id: int, image_ids: Collection[str], kinds: Collection[PublicationKind]
) -> int:
    """Enqueue the outcomes of these images that are not in the outbox; return the number of rows added.

    Only graded and ungradable images that are DICOM instances are published, and only graded ones have an overlay.
    """
    if not kinds or not image_ids:
        return 0
    query = (
        select(
            runs.c.name, images.c.image_id, images.c.uri, gradings.c.status, gradings.c.model_id, gradings.c.settled_at
        )
        .join(gradings, gradings.c.image_id == images.c.image_id)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .where(
            gradings.c.run_id == run_id, gradings.c.image_id.in_(image_ids), gradings.c.status.in_(PUBLISHED_STATUSES)
        )
        .order_by(gradings.c.position)
    )
    rows = [
        _make_row(run_id, kind, found)
        for found in connection.execute(query)
        if find_instance_uid(found.image_id, found.uri) is not None
        for kind in PublicationKind
        if kind in kinds and (kind is not PublicationKind.OVERLAY or found.status == Status.GRADED)
    ]
    return _insert(connection, rows)


def enqueue_decision(
    connection: Connection, run_id: int, image_id: str, decision_id: int, kinds: Collection[PublicationKind]
) -> int:
    """Enqueue the readers' final grade of an image, after the model's outcome; return the number of rows added.

    decision_id: the decision that made it final.
    """
    added = enqueue_outcomes(connection, run_id, [image_id], kinds)
    published = select(outbox).where(
        outbox.c.run_id == run_id,
        outbox.c.image_id == image_id,
        outbox.c.kind.in_([kind for kind in READ_KINDS if kind in kinds]),
        outbox.c.decision_id == 0,
        outbox.c.settled_at
        == select(gradings.c.settled_at)
        .where(gradings.c.run_id == run_id, gradings.c.image_id == image_id)
        .scalar_subquery(),
    )
    rows = [
        {
            "run_id": run_id,
            "image_id": image_id,
            "kind": row.kind,
            "settled_at": row.settled_at,
            "decision_id": decision_id,
            "uid": derive_uid(row.uid, decision_id),
        }
        for row in connection.execute(published.order_by(outbox.c.outbox_id)).all()
    ]
    return added + _insert(connection, rows)


def enqueue_withdrawal(connection: Connection, run_id: int, image_id: str, decision_id: int) -> int:
    """Enqueue the retraction of a decision that was enqueued before; return the number of rows added.

    Also of one that is not published yet: its publisher may be storing it at the moment.
    """
    of_image = (gradings.c.run_id == outbox.c.run_id) & (gradings.c.image_id == outbox.c.image_id)
    enqueued = (
        select(outbox.c.kind, outbox.c.uid, gradings.c.settled_at)
        .join(gradings, of_image)
        .where(
            outbox.c.run_id == run_id,
            outbox.c.image_id == image_id,
            outbox.c.decision_id == decision_id,
            ~outbox.c.withdrawn,
        )
        .order_by(outbox.c.outbox_id)
    )
    rows = [
        {
            "run_id": run_id,
            "image_id": image_id,
            "kind": row.kind,
            "settled_at": row.settled_at,
            "decision_id": decision_id,
            "withdrawn": True,
            "uid": derive_uid(row.uid, "withdrawn"),
        }
        for row in connection.execute(enqueued).all()
    ]
    return _insert(connection, rows)


def lease_publications(
    engine: Engine,
    kinds: Collection[PublicationKind],
    *,
    enabled: Collection[PublicationKind] | None = None,
    run_id: int | None = None,
    limit: int,
    lease_s: float,
    max_attempts: int,
) -> PublicationLease:
    """Lease up to `limit` objects of these kinds that are due, oldest first.

    An object waits for those about its image that must come first: a report for its overlay, to which it refers, and
    each kind for the earlier ones of its kind. enabled: the kinds that it waits for, `kinds` if it is None. run_id:
    None means all runs. Raises DatabaseError.
    """
    token = str(uuid4())
    is_due = and_(
        outbox.c.state == PublicationState.PENDING,
        outbox.c.due_at < epoch_now(),
        outbox.c.kind.in_(kinds),
        *(() if run_id is None else (outbox.c.run_id == run_id,)),
    )
    with write_transaction(engine) as connection:
        connection.execute(
            update(outbox)
            .where(is_due, outbox.c.attempts >= max_attempts)
            .values(
                state=PublicationState.REFUSED,
                lease_token=None,
                error_code="publisher_crash",
                error_detail=f"{max_attempts} publishers ended while they published it",
            )
        )
        chosen = (
            select(outbox.c.outbox_id)
            .where(is_due, ~_waits(kinds if enabled is None else enabled))
            .order_by(outbox.c.due_at, outbox.c.outbox_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        # Two statements: PostgreSQL may execute a subquery with a limit more than once.
        leased = connection.execute(
            update(outbox)
            .where(outbox.c.outbox_id.in_(connection.scalars(chosen).all()))
            .values(lease_token=token, due_at=epoch_now() + lease_s, attempts=outbox.c.attempts + 1)
            .returning(*(outbox.c[name] for name in Publication.__dataclass_fields__))
        ).all()
        _record_leases(connection, leased)
    ordered = sorted(leased, key=lambda row: row.outbox_id)
    return PublicationLease(
        token, tuple(Publication(**row._asdict() | {"kind": PublicationKind(row.kind)}) for row in ordered)
    )


def renew_publications(engine: Engine, lease: PublicationLease, *, lease_s: float) -> None:
    """Extend the lease of the objects that are still held. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(
            update(outbox).where(outbox.c.lease_token == lease.token).values(due_at=epoch_now() + lease_s)
        )


def finish_publication(engine: Engine, lease: PublicationLease, publication: Publication) -> bool:
    """Mark an object as published; do nothing and return false if its lease was lost. Raises DatabaseError."""
    return _settle(
        engine,
        lease,
        publication,
        state=PublicationState.PUBLISHED,
        published_at=datetime.now(UTC),
        error_code=None,
        error_detail=None,
    )


def refuse_publication(engine: Engine, lease: PublicationLease, publication: Publication, error: FundusError) -> bool:
    """Mark an object as one that must not be published as it is; see `finish_publication`."""
    return _settle(
        engine,
        lease,
        publication,
        state=PublicationState.REFUSED,
        error_code=error.code,
        error_detail=error.detail,
    )


def supersede_publication(engine: Engine, lease: PublicationLease, publication: Publication) -> bool:
    """Mark an object that there is no need for: its outcome has changed, or nothing was to be retracted.

    See `finish_publication`.
    """
    return _settle(engine, lease, publication, state=PublicationState.SUPERSEDED, error_code=None, error_detail=None)


def postpone_publication(
    engine: Engine, lease: PublicationLease, publication: Publication, error: ServiceError
) -> bool:
    """Return an object that a service failed; it is due again after a pause that doubles with each failure.

    The attempt is not counted. See `finish_publication`.
    """
    return _settle(
        engine,
        lease,
        publication,
        failures=outbox.c.failures + 1,
        attempts=outbox.c.attempts - 1,
        due_at=epoch_now() + pause_after(publication.failures),
        error_code=error.code,
        error_detail=error.detail,
    )


def accepts_objects(engine: Engine, kind: PublicationKind) -> bool:
    """Whether an object of this kind was published within MAX_PAUSE_S, the longest pause. Raises DatabaseError."""
    since = datetime.now(UTC) - timedelta(seconds=MAX_PAUSE_S)
    query = select(outbox.c.outbox_id).where(outbox.c.kind == kind, outbox.c.published_at > since).limit(1)
    with read_transaction(engine) as connection:
        return connection.execute(query).first() is not None


def release_publications(engine: Engine, lease: PublicationLease) -> None:
    """Return the objects that were not tried; they are due at once. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.lease_token == lease.token)
            .values(lease_token=None, attempts=outbox.c.attempts - 1, due_at=epoch_now())
        )


def retry_refused(connection: Connection, run_id: int, kinds: Collection[PublicationKind]) -> int:
    """Make the refused objects of a run pending again, and those that wait due; return the number of refused ones."""
    of_run = (outbox.c.run_id == run_id, outbox.c.kind.in_(kinds))
    waits = (outbox.c.state == PublicationState.PENDING, outbox.c.lease_token.is_(None))
    connection.execute(update(outbox).where(*of_run, *waits).values(due_at=epoch_now() - 1, failures=0))
    again = {"state": PublicationState.PENDING, "due_at": epoch_now() - 1, "attempts": 0, "failures": 0}
    return connection.execute(
        update(outbox).where(*of_run, outbox.c.state == PublicationState.REFUSED).values(again)
    ).rowcount


def pause_after(failures: int) -> float:
    """Return the pause in seconds before the next attempt, after `failures` earlier failures and this one."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures, 16), MAX_PAUSE_S)


def _make_row(run_id: int, kind: PublicationKind, found: Any) -> dict[str, Any]:
    uid = derive_uid(kind, found.name, found.image_id, found.model_id or "", found.settled_at.isoformat())
    return {
        "run_id": run_id,
        "image_id": found.image_id,
        "kind": kind,
        "settled_at": found.settled_at,
        "decision_id": 0,
        "uid": uid,
    }


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    if not rows:
        return 0
    statement = (
        insert_or_ignore(connection, outbox)
        .values(queued_at=datetime.now(UTC), due_at=epoch_now())
        .returning(outbox.c.outbox_id)
    )
    return len(connection.execute(statement, rows).all())


def _waits(kinds: Collection[PublicationKind]) -> ColumnElement[bool]:
    """Whether another pending object about the same image must be published first."""
    first = outbox.alias()
    is_overlay = and_(outbox.c.kind == PublicationKind.SR, first.c.kind == PublicationKind.OVERLAY)
    is_earlier = and_(outbox.c.kind == first.c.kind, first.c.outbox_id < outbox.c.outbox_id)
    return (
        select(first.c.outbox_id)
        .where(
            first.c.run_id == outbox.c.run_id,
            first.c.image_id == outbox.c.image_id,
            first.c.state == PublicationState.PENDING,
            first.c.kind.in_(kinds),
            or_(is_overlay, is_earlier),
        )
        .exists()
    )


def _record_leases(connection: Connection, leased: Sequence[Row[Any]]) -> None:
    by_run: dict[int, dict[str, int]] = {}
    for row in leased:
        counts = by_run.setdefault(row.run_id, {})
        counts[row.kind] = counts.get(row.kind, 0) + 1
    names = connection.execute(select(runs.c.run_id, runs.c.name).where(runs.c.run_id.in_(by_run))).all()
    for run_id, name in names:
        record_action(connection, AuditAction.PUBLISH, run=name, **by_run[run_id])


def _settle(engine: Engine, lease: PublicationLease, publication: Publication, **values: Any) -> bool:
    with write_transaction(engine) as connection:
        changed = connection.execute(
            update(outbox)
            .where(outbox.c.outbox_id == publication.outbox_id, outbox.c.lease_token == lease.token)
            .values(lease_token=None, **values)
        )
    return changed.rowcount == 1
