"""The whole way on one machine: an embedded broker, a SQLite ledger, a folder store and a real worker process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import Engine, select

from producer.demo.embedded_valkey import die_with_parent, embedded_valkey, stop
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
POLL_S = 0.25
REPORT_WITHIN_S = 60
LOG_TAIL_LINES = 15

Progress = Callable[[int, int, int], None]
"""Takes the images settled so far, all of them, and those of the settled ones that have no grade."""


@dataclass(frozen=True, slots=True)
class DemoSource:
    """What to grade, where its reference grades are, and the run's name, of this moment unless given."""

    text: str = str(SAMPLES)
    labels: Path | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One row of the demo's table; `name`: the file's without its suffix, or an entry of a stack."""

    name: str
    status: Status
    grade: int | None
    reference_grade: int | None
    referable: bool | None
    overlay: Path | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did and where it left it; `seconds` until the last image was settled."""

    run: str
    images: tuple[DemoImage, ...]
    seconds: float
    database: Path
    store: Path
    log: Path
    report: Path | None

    def count(self, status: Status) -> int:
        """How many images ended so."""
        return sum(image.status == status for image in self.images)


def run_demo(
    out: Path, source: DemoSource, progress: Progress, *, on_warning: Callable[[str], None] = lambda _: None
) -> DemoResult:
    """Grade a source on servers that live under `out` and end with the call; what they wrote stays there.

    Raises UsageError for a source that cannot be read or a missing extra, ServiceError naming the log when the worker
    dies.
    """
    started = time.monotonic()
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with embedded_valkey(out / "broker") as broker_url:
        addresses = {
            "database_url": f"sqlite:///{out / 'fundus.db'}",
            "broker_url": broker_url,
            "storage_url": (out / "store").as_uri(),
        }
        settings = parse_settings(**addresses)
        engine = connect(settings)
        try:
            upgrade(engine)
            # Beside the worker's start, the longest step.
            with _worker(addresses, out / "worker.log") as worker:
                run = _enqueue(engine, settings, source, on_warning)
                _wait(engine, run, worker, out / "worker.log", progress)
                seconds = time.monotonic() - started
                report = _wait_for_report(engine, run, worker, out / "store")
            rows = _rows(engine, run, out / "store")
        finally:
            engine.dispose()
    return DemoResult(run, rows, seconds, out / "fundus.db", out / "store", out / "worker.log", report)


def _enqueue(engine: Engine, settings: Settings, source: DemoSource, on_warning: Callable[[str], None]) -> str:
    name = source.run or f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    opened = open_source(
        source.text,
        storage=Storage(settings),
        admission=make_admission_policy(settings),
        labels=source.labels,
        on_warning=on_warning,
    )
    # Small chunks: the first grades show early.
    request = RunRequest(name, opened.text, chunk_size=4)
    done = enqueue(engine, make_celery(settings), settings, request, opened.references, lambda *_: None)
    if done.found == 0:
        raise SourceError(f"no photographs in {opened.text}")
    return done.run


@contextmanager
def _worker(addresses: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **{PREFIX + name.upper(): value for name, value in addresses.items()}}
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
        stop(process)


def _wait(engine: Engine, run: str, worker: subprocess.Popen[bytes], log: Path, progress: Progress) -> None:
    run_id = find_run(engine, run).run_id
    statuses = select(gradings.c.status).where(gradings.c.run_id == run_id)
    while True:
        finished = find_run(engine, run).state == RunState.FINISHED
        with read_transaction(engine) as connection:
            found = connection.scalars(statuses).all()
        settled = [status for status in found if status != Status.QUEUED]
        progress(len(settled), len(found), sum(status != Status.GRADED for status in settled))
        if finished:
            return
        if worker.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise ServiceError(
                f"the worker ended with {worker.returncode}; the end of {log}:\n{tail}", code="worker_died"
            )
        time.sleep(POLL_S)


def _wait_for_report(engine: Engine, run: str, worker: subprocess.Popen[bytes], store: Path) -> Path | None:
    """Its page, or None when it does not come: the overlays are there without it."""
    written = select(reports.c.prefix).join(runs).where(runs.c.name == run, reports.c.written_at.is_not(None))
    deadline = time.monotonic() + REPORT_WITHIN_S
    while worker.poll() is None and time.monotonic() < deadline:
        with read_transaction(engine) as connection:
            prefix: str | None = connection.execute(written).scalar()
        if prefix is not None:
            return store / prefix / "index.html"
        time.sleep(POLL_S)
    return None


def _rows(engine: Engine, run: str, store: Path) -> tuple[DemoImage, ...]:
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
                _name(unquote(row.uri).rpartition("/")[2]),
                Status(row.status),
                row.grade,
                row.reference_grade,
                row.referable,
                store / row.overlay_key if row.overlay_key else None,
                row.error_code,
            )
            for row in connection.execute(query)
        )


def _name(file: str) -> str:
    return file if "#" in file else file.rpartition(".")[0] or file
