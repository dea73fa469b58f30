"""A ledger that dies, goes away, loses its connections in the middle of a commit, or is busy."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.site import Site
from tests.faults.trial import trial
from tests.services.fault_proxy import Fault


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 30])
def test_killed_database_loses_no_image(away_s: float, full: Site, small_bundle: Path, conclude: Record) -> None:
    assert full.postgres is not None
    with trial(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.strike()
        full.postgres.kill()
        run.wait(away_s)
        full.postgres.start()
        conclude(f"database: kill -9, {away_s} s away", run)
        assert run.supervisor.exits == []
        assert "Traceback" not in run.supervisor.logs


@pytest.mark.slow
def test_outage_longer_than_a_lease_costs_no_image_an_attempt(full: Site, small_bundle: Path, conclude: Record) -> None:
    """The workers live: what they hold is theirs still, and nobody is to blame."""
    assert full.postgres is not None
    env = {"FUNDUS_LEASE_S": "10", "FUNDUS_RECONCILE_EVERY_S": "2"}
    with trial(full, small_bundle, images=200, env=env) as run:
        run.until_settled(0.1)
        run.strike()
        full.postgres.kill()
        run.wait(14)
        full.postgres.start()
        conclude("database: away for longer than a lease", run)
        assert full.rows("SELECT max(attempts) FROM gradings") == [(1,)]


@pytest.mark.slow
def test_restarted_database_loses_no_image(full: Site, small_bundle: Path, conclude: Record) -> None:
    assert full.postgres is not None
    with trial(full, small_bundle, images=400) as run:
        for share in (0.1, 0.3, 0.5):
            run.until_settled(share)
            run.strike()
            full.postgres.stop()
            full.postgres.start()
        conclude("database: restart", run)
        assert run.supervisor.exits == []


@pytest.mark.slow
def test_connections_cut_at_any_moment_lose_no_image(full: Site, small_bundle: Path, conclude: Record) -> None:
    with trial(full, small_bundle, images=400) as run:
        while run.settled() < len(run.image_ids) and len(run.strikes) < 40:
            run.wait(run.random.uniform(0, 0.3))
            run.strike()
            full.proxies["database"].inject(None)
        conclude("database: connections reset at random moments", run)


@pytest.mark.slow
def test_answers_lost_in_the_middle_of_a_commit_settle_nothing_twice(
    full: Site, small_bundle: Path, conclude: Record
) -> None:
    """The server commits, and the worker never learns of it."""
    with trial(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        for after_bytes in range(600, 1800, 100):
            run.strike()
            full.proxies["database"].inject(Fault("cut", after_bytes=after_bytes), times=4)
            run.wait(1)
        full.proxies["database"].inject(None)
        conclude("database: cut after so many bytes of answers", run)


@pytest.mark.slow
def test_locked_sqlite_loses_no_image(light: Site, small_bundle: Path, conclude: Record) -> None:
    """Longer than the 30 s that a writer waits for its turn."""
    with trial(light, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.strike()
        with closing(sqlite3.connect(light.folder / "ledger.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            run.wait(35)
            connection.execute("ROLLBACK")
        conclude("database: SQLite locked for 35 s", run)
