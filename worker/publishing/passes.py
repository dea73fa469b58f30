"""One pass over the outbox: the duty of beat publishes all runs, `fundus publish RUN` one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.core.errors import PublicationError
from worker.core.storage.private_file import create_file
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import connect, write_transaction
from worker.ledger.duty_record import PUBLISH, record_duty
from worker.ledger.locks import locked
from worker.ledger.migrate import require_compatible
from worker.ledger.outbox_runs import enqueue_run, preview_run
from worker.ledger.runs import find_run
from worker.publishing.open_publishers import DICOM_KINDS, open_dicom_publisher, open_publishers
from worker.publishing.publisher import PassResult, publish_pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.core.settings import Settings
    from worker.ledger.outbox_runs import Preview

LOCK = "publish"


def publish_all(settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> PassResult:
    """Publish what is due of all runs. Beat calls it.

    Raises OverlapError while another process does, SettingsError, DatabaseError.
    """
    engine = connect(settings)
    try:
        require_compatible(engine)
        with open_publishers(settings) as publishers, locked(engine, LOCK, lock_s=settings.lease_s) as lock:

            def check_lock() -> None:
                lock.ensure_held()
                on_progress()

            result = publish_pending(
                engine,
                publishers,
                lease_s=settings.lease_s,
                max_attempts=settings.max_attempts,
                on_progress=check_lock,
            )
        if not result.away:
            record_duty(engine, PUBLISH)
        return result
    finally:
        engine.dispose()


def publish_run(settings: Settings, name: str, *, on_progress: Callable[[], object] = lambda: None) -> PassResult:
    """Enqueue what is missing of a run, retry what was refused, and publish what is due.

    Raises RunError for an unknown run, SettingsError, DatabaseError.
    """
    engine = connect(settings)
    try:
        require_compatible(engine)
        run = find_run(engine, name)
        with open_publishers(settings) as publishers:
            enqueue_run(engine, run, settings.publication_kinds)
            return publish_pending(
                engine,
                publishers,
                run_id=run.run_id,
                lease_s=settings.lease_s,
                max_attempts=settings.max_attempts,
                on_progress=on_progress,
            )
    finally:
        engine.dispose()


def preview(settings: Settings, name: str) -> Iterator[Preview]:
    """Yield what `publish_run` would publish; nothing is changed or sent. Raises RunError, DatabaseError."""
    engine = connect(settings)
    try:
        require_compatible(engine)
        yield from preview_run(engine, find_run(engine, name), settings.publication_kinds)
    finally:
        engine.dispose()


def write_objects(settings: Settings, name: str, folder: Path) -> Iterator[Path | PublicationError]:
    """Write the DICOM objects of a run as private files; yield the path of each, or why it must not be published.

    Each one is built from the photograph's header in the PACS and has the patient's name; nothing is stored there.
    Raises RunError, SettingsError, ServiceError and OSError.
    """
    engine = connect(settings)
    try:
        require_compatible(engine)
        run = find_run(engine, name)
        with open_dicom_publisher(settings) as publisher:
            with write_transaction(engine) as connection:
                # Record the export first: an aborted one may already contain data.
                record_action(connection, AuditAction.EXPORT, run=name, format="dicom", out=str(folder.absolute()))
            folder.mkdir(parents=True, exist_ok=True)
            for one in preview_run(engine, run, [kind for kind in DICOM_KINDS if kind in settings.publication_kinds]):
                try:
                    built = publisher.build(one.outcome, stored=False)
                except PublicationError as error:
                    yield error
                    continue
                path = folder / f"{one.outcome.publication.kind}-{one.outcome.publication.uid}.dcm"
                path.unlink(missing_ok=True)
                with create_file(path, "xb") as file:
                    file.write(built.file)
                yield path
    finally:
        engine.dispose()
