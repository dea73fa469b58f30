"""Run the whole system on one machine: embedded broker, SQLite ledger, folder store and a worker process."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import Engine, select

from producer.demo.embedded_valkey import die_with_parent, embedded_valkey, stop_process
from producer.runs.enqueue import enqueue
from producer.runs.lifecycle import RunRequest
from producer.sources.open_source import open_source
from worker.core.errors import ServiceError, SourceError
from worker.core.manifests.admission import make_admission_policy
from worker.core.messaging.broker import make_celery
from worker.core.settings import PREFIX, Settings, parse_settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import RunState, Status
from worker.ledger.database import connect, read_transaction
from worker.ledger.migrate import upgrade
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, images, reports, runs

SAMPLES = Path(__file__).parent / "samples" / "manifest.csv"
DICOM_SAMPLES = Path(__file__).parent / "dicom" / "manifest.csv"
"""Two of the photographs as a camera would send them; graded after the others where DICOM can be read."""
POLL_INTERVAL_S = 0.25
REPORT_TIMEOUT_S = 60
LOG_TAIL_LINES = 15

OnDemoProgress = Callable[[int, int, int], None]
"""Called with the numbers of settled images, of all images, and of settled images without a grade."""


@dataclass(frozen=True, slots=True)
class DemoSource:
    """Images to grade.

    location: folder, manifest, stack or S3 prefix. labels: CSV with reference grades. run: name of the run; by default
    one made of the current time.
    """

    location: str = str(SAMPLES)
    labels: Path | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One row of the demo's table. `name`: file name without suffix, or entry of a stack."""

    name: str
    status: Status
    grade: int | None
    reference_grade: int | None
    referable: bool | None
    overlay: Path | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Outcomes and paths of the demo. `seconds`: time until the last image was settled."""

    run: str
    images: tuple[DemoImage, ...]
    seconds: float
    database: Path
    store: Path
    log: Path
    report: Path | None

    def count(self, status: Status) -> int:
        """Return the number of images with this status."""
        return sum(image.status == status for image in self.images)


def run_demo(
    out: Path, source: DemoSource, on_progress: OnDemoProgress, *, on_warning: Callable[[str], None] = lambda _: None
) -> DemoResult:
    """Grade a source on servers that run for the duration of the call and keep their data under `out`.

    Raises UsageError for a missing extra, SourceError for a source that cannot be read or has no images, ServiceError
    with the end of the log if the worker dies.
    """
    started = time.monotonic()
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with embedded_valkey(out / "broker") as broker_url:
        urls = {
            "database_url": f"sqlite:///{out / 'fundus.db'}",
            "broker_url": broker_url,
            "storage_url": (out / "store").as_uri(),
        }
        settings = parse_settings(**urls)
        if settings.patient_key is None and source.location == str(SAMPLES):
            # The DICOM samples have made-up patients. A user's own photographs need a key that is kept.
            settings = parse_settings(**urls, patient_key=secrets.token_hex(32))
        engine = connect(settings)
        try:
            upgrade(engine)
            # Enqueue while the worker starts, which takes longest.
            with _run_worker(urls, out / "worker.log") as worker:
                run = _enqueue(engine, settings, source, on_warning)
                _wait_until_finished(engine, run, worker, out / "worker.log", on_progress)
                seconds = time.monotonic() - started
                report = _wait_for_report(engine, run, worker, out / "store")
            rows = _read_images(engine, run, out / "store")
        finally:
            engine.dispose()
    return DemoResult(run, rows, seconds, out / "fundus.db", out / "store", out / "worker.log", report)


def _enqueue(engine: Engine, settings: Settings, source: DemoSource, on_warning: Callable[[str], None]) -> str:
    name = source.run or f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    open_one = partial(
        open_source, storage=Storage(settings), admission=make_admission_policy(settings), on_warning=on_warning
    )
    opened = open_one(source.location, labels=source.labels)
    references = opened.references
    if source.location == str(SAMPLES) and find_spec("pydicom") is not None:
        references = chain(references, open_one(str(DICOM_SAMPLES)).references)
    # Small chunks, so that the first grades appear early.
    request = RunRequest(name, opened.location, chunk_size=4)
    done = enqueue(engine, make_celery(settings), settings, request, references, lambda *_: None)
    if done.found == 0:
        raise SourceError(f"no photographs in {opened.location}")
    return done.run


@contextmanager
def _run_worker(urls: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **{PREFIX + name.upper(): value for name, value in urls.items()}}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "producer", "worker", "--name", "demo"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    try:
        yield process
    finally:
        stop_process(process)


def _wait_until_finished(
    engine: Engine, run: str, worker: subprocess.Popen[bytes], log: Path, on_progress: OnDemoProgress
) -> None:
    run_id = find_run(engine, run).run_id
    statuses = select(gradings.c.status).where(gradings.c.run_id == run_id)
    while True:
        finished = find_run(engine, run).state == RunState.FINISHED
        with read_transaction(engine) as connection:
            found = connection.scalars(statuses).all()
        settled = [status for status in found if status != Status.QUEUED]
        on_progress(len(settled), len(found), sum(status != Status.GRADED for status in settled))
        if finished:
            return
        if worker.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise ServiceError(
                f"the worker exited with status {worker.returncode}; last lines of {log}:\n{tail}", code="worker_died"
            )
        time.sleep(POLL_INTERVAL_S)


def _wait_for_report(engine: Engine, run: str, worker: subprocess.Popen[bytes], store: Path) -> Path | None:
    """Return the path of the report's first page, or None if it is not written within 60 s."""
    written = select(reports.c.prefix).join(runs).where(runs.c.name == run, reports.c.written_at.is_not(None))
    deadline = time.monotonic() + REPORT_TIMEOUT_S
    while worker.poll() is None and time.monotonic() < deadline:
        with read_transaction(engine) as connection:
            prefix: str | None = connection.execute(written).scalar()
        if prefix is not None:
            return store / prefix / "index.html"
        time.sleep(POLL_INTERVAL_S)
    return None


def _read_images(engine: Engine, run: str, store: Path) -> tuple[DemoImage, ...]:
    query = (
        select(
            images.c.uri,
            gradings.c.status,
            gradings.c.grade,
            images.c.reference_grade,
            gradings.c.referable,
            gradings.c.overlay_key,
            gradings.c.error_code,
        )
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == find_run(engine, run).run_id)
        .order_by(gradings.c.position)
    )
    with read_transaction(engine) as connection:
        return tuple(
            DemoImage(
                _image_name(unquote(row.uri).rpartition("/")[2]),
                Status(row.status),
                row.grade,
                row.reference_grade,
                row.referable,
                store / row.overlay_key if row.overlay_key else None,
                row.error_code,
            )
            for row in connection.execute(query)
        )


def _image_name(file: str) -> str:
    return file if "#" in file else file.rpartition(".")[0] or file
