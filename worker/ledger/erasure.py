"""Erase a patient: outcomes, overlays, reports, the readers' reasons and the image references.

The order: withdraw the reports, cancel queued images and mark overlays as retired; delete the objects; delete the rows
and schedule the reports again. A row never points at a deleted overlay, every object is known to a row, and a call that
was killed is completed by the next one. Decisions keep their grades without the reasons; the audit log and the records
of seen images, which prevent that a night enqueues an erased image again, name no patient.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, FromClause, Select, delete, func, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import OverlapError, RunError, UsageError
from worker.core.manifests.admission import hash_patient_id
from worker.core.settings import Settings
from worker.core.storage.keys import OVERLAY_FORMATS, overlay_key, report_prefix
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.core.vocabulary import AuditAction, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.legal_hold import RETENTION_LOCK
from worker.ledger.locks import HeldLock, locked
from worker.ledger.migrate import open_ledger
from worker.ledger.outbox_schema import outbox
from worker.ledger.report_copies import delete_report_copy
from worker.ledger.report_leases import reschedule_withdrawn_reports, withdraw_reports
from worker.ledger.review_schema import decisions, reader_images, reviews
from worker.ledger.schema import audit_log, gradings, images, runs


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """Numbers of images, outcomes, overlays and reasons that were erased, or that a dry run would erase.

    runs: names of the runs that contained the images. exports: places of the exports and reports that were written of
    these runs and that the program does not delete.
    """

    images: int
    outcomes: int
    overlays: int
    reasons: int
    runs: tuple[str, ...]
    exports: tuple[str, ...]


def erase_patient(settings: Settings, patient_id: str, *, dry_run: bool = False) -> ErasureResult:
    """Erase a patient from the ledger of the settings and its object store, or count what would be erased.

    patient_id: as in the manifests, or as the ledger stores it. Raises UsageError when no image has it, RunError when
    one of the runs is under a legal hold, OverlapError when an image is being graded, a report is being written or
    retention runs; StorageError and DatabaseError.
    """
    engine = open_ledger(settings)
    try:
        of_patient = _of_patient(settings, patient_id)
        found = _count(engine, of_patient)
        if found.images == 0:
            raise UsageError(f"no image of this patient in the ledger{_key_advice(settings)}", code="patient_unknown")
        if not dry_run:
            with locked(engine, RETENTION_LOCK, lock_s=settings.lease_s) as lock:
                _Erasure(engine, Storage(settings).overlays, settings, of_patient, lock).run()
        return found
    finally:
        engine.dispose()


class _Erasure:
    """Erasure of the images that a query selects, under the lock of retention."""

    def __init__(
        self, engine: Engine, store: ObjectStore, settings: Settings, of_patient: Select[tuple[str]], lock: HeldLock
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._of_patient = of_patient
        self._graded = gradings.c.image_id.in_(of_patient)
        self._lock = lock

    def run(self) -> None:
        """Erase everything. Raises as `erase_patient` does; rows stay until their objects are deleted."""
        self._retire_overlays(is_first=True)
        while True:
            try:
                self._delete_rows(self._delete_objects())
            except _ChangedError:
                self._retire_overlays(is_first=False)
            else:
                return

    def _retire_overlays(self, *, is_first: bool) -> None:
        """Cancel queued images and retire overlays, so that no worker and no writer of reports uses them any more."""
        now = datetime.now(UTC)
        is_queued, has_overlay = gradings.c.status == Status.QUEUED, gradings.c.overlay_key.is_not(None)
        with write_transaction(self._engine) as connection:
            self._lock.fence(connection)
            by_run = _count_by_run(connection, self._graded)
            self._check(connection)
            self._withdraw_publications(connection)
            cancelled = {"status": Status.CANCELLED, "settled_at": now, "lease_token": null()}
            connection.execute(update(gradings).where(self._graded, is_queued, ~_is_leased()).values(cancelled))
            retired = {"retired_key": gradings.c.overlay_key, "overlay_key": null(), "overlay_retired_at": now}
            connection.execute(update(gradings).where(self._graded, has_overlay).values(retired))
            for run, count in by_run.items() if is_first else ():
                record_action(connection, AuditAction.ERASE, run=run, images=count)

    def _withdraw_publications(self, connection: Connection) -> None:
        """Empty the outbox of the images. Raises OverlapError while one is published."""
        of_images = outbox.c.image_id.in_(self._of_patient)
        connection.execute(select(outbox.c.outbox_id).where(of_images).with_for_update())
        is_leased = outbox.c.lease_token.is_not(None) & (outbox.c.due_at > epoch_now())
        if connection.scalar(select(func.count()).select_from(outbox).where(of_images, is_leased)):
            raise OverlapError(
                "results of the patient are being published; fix: call it again in FUNDUS_LEASE_S seconds"
            )
        connection.execute(delete(outbox).where(of_images))

    def _check(self, connection: Connection) -> list[int]:
        """Withdraw the reports and return the ids of the runs. Raises RunError and OverlapError."""
        decided = select(decisions.c.run_id).where(decisions.c.image_id.in_(self._of_patient))
        contains = runs.c.run_id.in_(select(gradings.c.run_id).where(self._graded).union(decided))
        found = connection.execute(select(runs.c.run_id, runs.c.name, runs.c.held).where(contains)).all()
        if held := sorted(run.name for run in found if run.held):
            raise RunError(
                f"run {held[0]} contains the patient and is under a legal hold; fix: `fundus hold {held[0]} --release`"
                " if the hold has ended",
                code="run_held",
            )
        leased = select(func.count()).select_from(gradings).where(self._graded, _is_leased())
        if count := connection.scalar(leased):
            raise OverlapError(
                f"workers are grading {count} images of the patient; fix: call it again when they are graded, or"
                " FUNDUS_LEASE_S after a crash"
            )
        withdraw_reports(connection, [run.run_id for run in found])
        return [run.run_id for run in found]

    def _delete_objects(self) -> set[str]:
        """Delete overlays and reports; return the keys of the overlays."""
        query = (
            select(runs.c.name, runs.c.model_id, gradings.c.image_id, gradings.c.retired_key)
            .join(runs, runs.c.run_id == gradings.c.run_id)
            .where(self._graded)
        )
        with read_transaction(self._engine) as connection:
            rows = connection.execute(query).all()
        for row in rows:
            for key in _possible_keys(row):
                self._store.delete(key)
        for run in sorted({row.name for row in rows}):
            self._store.delete_prefix(report_prefix(run))
            delete_report_copy(self._settings, run)
        return {row.retired_key for row in rows if row.retired_key is not None}

    def _delete_rows(self, deleted: Collection[str]) -> None:
        """Delete the rows whose objects are deleted and erase the reasons. Raises _ChangedError, then none is."""
        with write_transaction(self._engine) as connection:
            self._lock.fence(connection)
            run_ids = self._check(connection)
            decided = decisions.c.image_id.in_(self._of_patient)
            reasons = update(decisions).where(decided, decisions.c.reason != "").values(reason="")
            erased = connection.execute(reasons).rowcount
            connection.execute(delete(reader_images).where(reader_images.c.image_id.in_(self._of_patient)))
            connection.execute(delete(reviews).where(reviews.c.image_id.in_(self._of_patient)))
            outcomes = connection.execute(
                delete(gradings)
                .where(self._graded)
                .returning(gradings.c.run_id, gradings.c.status, gradings.c.overlay_key, gradings.c.retired_key)
            ).all()
            if any(
                row.status == Status.QUEUED or row.overlay_key or row.retired_key not in {None, *deleted}
                for row in outcomes
            ):
                raise _ChangedError
            try:
                gone = connection.execute(delete(images).where(images.c.image_id.in_(self._of_patient))).rowcount
            except IntegrityError as error:
                raise _ChangedError from error
            reschedule_withdrawn_reports(connection, run_ids)
            record_action(connection, AuditAction.ERASED, images=gone, outcomes=len(outcomes), reasons=erased)


class _ChangedError(Exception):
    """The images were enqueued or graded again after their overlays were retired."""


def _of_patient(settings: Settings, patient_id: str) -> Select[tuple[str]]:
    """Build the query for the image ids of a patient, by the id given and by its pseudonym."""
    ids = [patient_id]
    if settings.patient_key is not None:
        ids.append(hash_patient_id(patient_id, settings.patient_key))
    return select(images.c.image_id).where(images.c.patient_id.in_(ids))


def _count(engine: Engine, of_patient: Select[tuple[str]]) -> ErasureResult:
    graded = gradings.c.image_id.in_(of_patient)
    has_object = or_(gradings.c.overlay_key.is_not(None), gradings.c.retired_key.is_not(None))
    has_reason = decisions.c.image_id.in_(of_patient) & (decisions.c.reason != "")
    with read_transaction(engine) as connection:

        def count(table: FromClause, *conditions: ColumnElement[bool]) -> int:
            return connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0

        names = tuple(_count_by_run(connection, graded))
        return ErasureResult(
            images=count(of_patient.subquery()),
            outcomes=count(gradings, graded),
            overlays=count(gradings, graded, has_object),
            reasons=count(decisions, has_reason),
            runs=names,
            exports=_find_exports(connection, names),
        )


def _count_by_run(connection: Connection, graded: ColumnElement[bool]) -> dict[str, int]:
    query = (
        select(runs.c.name, func.count().label("images"))
        .join(gradings, gradings.c.run_id == runs.c.run_id)
        .where(graded)
        .group_by(runs.c.name)
        .order_by(runs.c.name)
    )
    return {row.name: row.images for row in connection.execute(query)}


def _find_exports(connection: Connection, run_names: Collection[str]) -> tuple[str, ...]:
    """Return where exports and reports of the runs were written, except the reports next to the overlays."""
    query = select(audit_log.c.run, audit_log.c.details).where(
        audit_log.c.action == AuditAction.EXPORT, audit_log.c.run.in_(run_names)
    )
    places = {
        str(details["out"])
        for run, details in connection.execute(query.order_by(audit_log.c.audit_id))
        if details.get("out") and f"/{report_prefix(run)}" not in details["out"]
    }
    return tuple(sorted(places))


def _is_leased() -> ColumnElement[bool]:
    return gradings.c.lease_token.is_not(None) & (gradings.c.due_at > epoch_now())


def _possible_keys(row: Any) -> set[str]:
    """Return the keys of a row's objects, also of one that a worker uploaded before it died."""
    known = set[str]() if row.retired_key is None else {row.retired_key}
    if row.model_id is None:
        return known
    return known.union(overlay_key(row.name, row.model_id, row.image_id, fmt) for fmt in OVERLAY_FORMATS)


def _key_advice(settings: Settings) -> str:
    if settings.patient_key is None:
        return "; fix: check the id, and set FUNDUS_PATIENT_KEY if the producers do"
    return "; fix: check the id, and that FUNDUS_PATIENT_KEY is the key of the producers"
