"""A database that dies, is unreachable or locked, or loses connections during a commit."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.servers import postgres_url
from tests.services.fault_proxy import Fault


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 30])
def test_killed_database_loses_no_image(away_s: float, full: Deployment, small_bundle: Path, verify: Verify) -> None:
    assert full.postgres is not None
    with fault_run(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.postgres.kill()
        run.wait(away_s)
        full.postgres.start()
        verify(f"database: kill -9, {away_s} s unreachable", run)
        assert run.supervisor.exits == []
        assert "Traceback" not in run.supervisor.logs


@pytest.mark.slow
def test_outage_longer_than_a_lease_counts_no_attempt(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """Workers survive and keep their leases, so no attempt is counted."""
    assert full.postgres is not None
    env = {"FUNDUS_LEASE_S": "10", "FUNDUS_RECONCILE_EVERY_S": "2"}
    with fault_run(full, small_bundle, images=200, env=env) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.postgres.kill()
        run.wait(14)
        full.postgres.start()
        verify("database: unreachable for longer than a lease", run)
        assert full.rows("SELECT max(attempts) FROM gradings") == [(1,)]


@pytest.mark.slow
def test_restarted_database_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    assert full.postgres is not None
    with fault_run(full, small_bundle, images=400) as run:
        for share in (0.1, 0.3, 0.5):
            run.until_settled(share)
            run.record_fault()
            full.postgres.stop()
            full.postgres.start()
        verify("database: restart", run)
        assert run.supervisor.exits == []


@pytest.mark.slow
def test_connections_cut_at_any_moment_lose_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    with fault_run(full, small_bundle, images=400) as run:
        while run.settled() < len(run.image_ids) and len(run.faults) < 40:
            run.wait(run.random.uniform(0, 0.3))
            run.record_fault()
            full.proxies["database"].inject(None)
        verify("database: connections reset at random moments", run)


@pytest.mark.slow
def test_response_lost_during_a_commit_settles_nothing_twice(
    full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    """The server commits, but the worker does not receive the response."""
    with fault_run(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        for after_bytes in range(600, 1800, 100):
            run.record_fault()
            full.proxies["database"].inject(Fault("cut", after_bytes=after_bytes), times=4)
            run.wait(1)
        full.proxies["database"].inject(None)
        verify("database: connection cut within a response", run)


@pytest.mark.slow
def test_locked_sqlite_loses_no_image(minimal: Deployment, small_bundle: Path, verify: Verify) -> None:
    """The lock lasts longer than the 30 s that a writer waits."""
    with fault_run(minimal, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        with closing(sqlite3.connect(minimal.folder / "ledger.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            run.wait(35)
            connection.execute("ROLLBACK")
        verify("database: SQLite locked for 35 s", run)


@pytest.mark.slow
def test_failed_serialisation_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """Serialisable isolation, while another session updates the same rows continuously."""
    assert full.postgres is not None
    with psycopg.connect(postgres_url(full.postgres.port), autocommit=True) as rival:
        rival.execute("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'")
        with fault_run(full, small_bundle, images=200, workers=2) as run:
            run.until_settled(0.1)
            run.record_fault()
            while run.settled() < 0.9 * len(run.image_ids):
                with suppress(psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    rival.execute("UPDATE gradings SET due_at = due_at WHERE status = 'queued'")
                run.wait(0.01)
            verify("database: serialisation failures", run)
    assert "could not serialize access" in (full.folder / "postgres" / "postgres.log").read_text()


@pytest.mark.slow
def test_locked_rows_lose_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """The lock lasts longer than a lock timeout and much longer than a lease."""
    assert full.postgres is not None
    with fault_run(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        with psycopg.connect(postgres_url(full.postgres.port)) as rival:
            rival.execute("LOCK TABLE gradings IN SHARE ROW EXCLUSIVE MODE")
            run.wait(35)
        verify("database: table locked for 35 s", run)
    assert "lock timeout" in (full.folder / "postgres" / "postgres.log").read_text()


@pytest.mark.slow
def test_read_only_database_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """As after a failover to a replica, or with a provider that protects a full disk."""
    assert full.postgres is not None
    with fault_run(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        with psycopg.connect(postgres_url(full.postgres.port), autocommit=True) as owner:
            owner.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            owner.execute("SELECT pg_reload_conf()")
            run.wait(10)
            owner.execute("SET default_transaction_read_only = off")
            owner.execute("ALTER SYSTEM RESET default_transaction_read_only")
            owner.execute("SELECT pg_reload_conf()")
        verify("database: read-only for 10 s", run)
    assert "read-only transaction" in (full.folder / "postgres" / "postgres.log").read_text()
