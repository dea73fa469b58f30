"""Operations of producers, workers, operators and retention on a small ledger, for the random tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from celery import Celery
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from producer.runs.lifecycle import RunRequest, open_run, seal_run
from producer.runs.register import register_batch
from producer.runs.resend import resend
from tests.unit.worker.ledger.ledger_rows import failed, graded
from worker.core.errors import StorageError
from worker.core.manifests.image_reference import ImageReference
from worker.core.messages import GradeChunk
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.core.vocabulary import Status
from worker.ledger.leases import finish_run, lease_chunk, renew_lease, settle_chunk
from worker.ledger.legal_hold import RETENTION_LOCK, set_legal_hold
from worker.ledger.locks import locked
from worker.ledger.retention import RetentionPass
from worker.ledger.retention_policy import Cutoffs
from worker.ledger.runs import find_run
from worker.maintenance.reconciler import reconcile

LEASE_S = 600.0
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Ledger:
    """What the operations share. holder: name under which the reconciler's lock is held."""

    app: Celery
    settings: Settings
    store: ObjectStore
    holder: str = "reconciler of the test"


@dataclass(frozen=True)
class Enqueue:
    """A producer registers images; attributes: whether it knows the patient and the checksum."""

    run: str
    images: tuple[str, ...]
    model_id: str | None
    with_patient: bool
    with_checksum: bool

    def __call__(self, engine: Engine, _ledger: Ledger) -> None:
        run, position = open_run(
            engine, RunRequest(name=self.run, source="test", model_id=self.model_id), default_chunk_size=2
        )
        references = [
            ImageReference(
                f"file:///{name}.jpg",
                name,
                patient_id=f"patient-{name}" if self.with_patient else None,
                sha256="0" * 64 if self.with_checksum else None,
            )
            for name in self.images
        ]
        register_batch(engine, run, references, position=position, resend_after_s=LEASE_S)
        seal_run(engine, run, report=True)


@dataclass(frozen=True)
class Grade:
    """A worker gets a message for images; outcome of each: `graded`, `failed`, `released`, or `lost` in a crash."""

    run: str
    images: tuple[str, ...]
    model_id: str
    outcomes: tuple[str, ...]
    renews: bool

    def __call__(self, engine: Engine, ledger: Ledger) -> None:
        run_id = find_run(engine, self.run).run_id
        chunk = GradeChunk(run_id=run_id, image_ids=self.images)
        lease = lease_chunk(engine, chunk, model_id=self.model_id, lease_s=LEASE_S, max_attempts=MAX_ATTEMPTS)
        if "lost" in self.outcomes or not lease.images:
            return
        if self.renews:
            renew_lease(engine, lease, lease_s=LEASE_S)
        outcome_of = dict(zip(self.images, self.outcomes, strict=True))
        outcomes, released = [], {}
        for image in lease.images:
            if outcome_of[image.image_id] == "graded":
                key = f"{self.run}/{self.model_id}/{image.image_id}.png"
                ledger.store.put(key, b"overlay", content_type="image/png", metadata={})
                outcomes.append(replace(graded(image.image_id), overlay_key=key))
            elif outcome_of[image.image_id] == "failed":
                outcomes.append(failed(image.image_id))
            else:
                released[image.image_id] = StorageError("away")
        settle_chunk(engine, lease, outcomes, released, model_id=self.model_id, retry_after_s=LEASE_S)
        finish_run(engine, run_id, report=True)


@dataclass(frozen=True)
class Cancel:
    run: str

    def __call__(self, engine: Engine, _ledger: Ledger) -> None:
        cancel(engine, self.run)


@dataclass(frozen=True)
class Resend:
    run: str
    requeue: tuple[Status, ...]

    def __call__(self, engine: Engine, ledger: Ledger) -> None:
        resend(engine, ledger.app, ledger.settings, self.run, self.requeue)


@dataclass(frozen=True)
class Complete:
    """A worker checks whether the run is settled."""

    run: str

    def __call__(self, engine: Engine, _ledger: Ledger) -> None:
        finish_run(engine, find_run(engine, self.run).run_id, report=True)


@dataclass(frozen=True)
class Reconcile:
    def __call__(self, engine: Engine, ledger: Ledger) -> None:
        reconcile(engine, ledger.app, ledger.settings, holder=ledger.holder)


@dataclass(frozen=True)
class Retain:
    """Retention, for which everything settled is expired: overlays, and rows if `rows`."""

    rows: bool

    def __call__(self, engine: Engine, ledger: Ledger) -> None:
        now = datetime.now(UTC) + timedelta(days=1)
        cutoffs = Cutoffs(overlays=now, rows=now if self.rows else None)
        with locked(engine, RETENTION_LOCK, lock_s=LEASE_S) as lock:
            RetentionPass(engine, ledger.store, ledger.settings, cutoffs, lock).run()


@dataclass(frozen=True)
class Hold:
    run: str
    release: bool

    def __call__(self, engine: Engine, _ledger: Ledger) -> None:
        set_legal_hold(engine, self.run, release=self.release)


Step = Enqueue | Grade | Cancel | Resend | Complete | Reconcile | Retain | Hold


def finish_everything(
    engine: Engine, ledger: Ledger, runs: Sequence[str], images: tuple[str, ...], model_id: str
) -> None:
    """Seal the runs, grade what is queued in them, with `model_id` if they have no model yet, and finish them."""
    for name in runs:
        run = find_run(engine, name)
        if run.state == "open":
            seal_run(engine, run, report=True)
        for image_id in images:
            Grade(name, (image_id,), run.model_id or model_id, ("graded",), renews=False)(engine, ledger)
        finish_run(engine, run.run_id, report=True)
