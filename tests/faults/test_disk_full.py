"""A full disk under the broker, the ledger, the store, or all of them."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import full_deployment, minimal_deployment
from tests.faults.disks import Disk, small_disk
from tests.faults.fault_run import FaultRun, fault_run
from tests.faults.hooks import Hooks
from tests.faults.servers import Daemon, postgres_url

FULL_FOR_S = 15


def fill_for_a_while(
    run: FaultRun, disk: Disk, server: Daemon | None = None, meanwhile: Callable[[], object] = lambda: None
) -> None:
    run.until_settled(0.1)
    run.record_fault()
    disk.fill()
    meanwhile()
    run.wait(FULL_FOR_S)
    disk.empty()
    if server is not None and not server.runs():
        server.start()
    assert run.settled() < len(run.image_ids), "the run finished before the disk was full"


def write_wal_until_it_dies(url: str) -> None:
    """Switch WAL segments until PostgreSQL has no space for another one and dies."""
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(20):
            try:
                connection.execute("SELECT pg_logical_emit_message(true, 'test', %s)", [str(number)])
                connection.execute("SELECT pg_switch_wal()")
            except psycopg.OperationalError:
                return
    pytest.fail("the database did not run out of space")


@pytest.mark.slow
def test_full_disk_under_the_broker_loses_no_image(tmp_path: Path, small_bundle: Path, verify: Verify) -> None:
    with small_disk(tmp_path / "valkey", 32) as disk, full_deployment(tmp_path) as deployment:
        hooks = Hooks(folder=tmp_path, image_takes_s=0.1, stuck_after_s=5)
        with fault_run(deployment, small_bundle, images=200, hooks=hooks) as run:
            fill_for_a_while(run, disk, deployment.broker.daemon)
            verify("broker: disk full for 15 s", run)
        assert "AOF write error looks solved" in (disk.folder / "valkey.log").read_text()


@pytest.mark.slow
def test_full_disk_under_the_database_loses_no_image(tmp_path: Path, small_bundle: Path, verify: Verify) -> None:
    with small_disk(tmp_path / "postgres", 192) as disk, full_deployment(tmp_path) as deployment:
        assert deployment.postgres is not None
        hooks = Hooks(folder=tmp_path, image_takes_s=0.1)
        with fault_run(deployment, small_bundle, images=200, hooks=hooks) as run:
            url = postgres_url(deployment.postgres.port)
            fill_for_a_while(run, disk, deployment.postgres, lambda: write_wal_until_it_dies(url))
            verify("database: disk full for 15 s", run)


@pytest.mark.slow
def test_full_disk_under_the_store_loses_no_image(tmp_path: Path, small_bundle: Path, verify: Verify) -> None:
    with small_disk(tmp_path / "seaweedfs", 256) as disk, full_deployment(tmp_path) as deployment:
        hooks = Hooks(folder=tmp_path, image_takes_s=0.1)
        with fault_run(deployment, small_bundle, images=200, hooks=hooks) as run:
            fill_for_a_while(run, disk, deployment.seaweedfs)
            verify("storage: disk full for 15 s", run)


@pytest.mark.slow
def test_full_disk_under_everything_loses_no_image(tmp_path: Path, small_bundle: Path, verify: Verify) -> None:
    """SQLite, the overlays and the broker on one disk, as on a laptop."""
    with small_disk(tmp_path / "disk", 64) as disk, minimal_deployment(disk.folder) as deployment:
        hooks = Hooks(folder=disk.folder, image_takes_s=0.1, stuck_after_s=5)
        with fault_run(deployment, small_bundle, images=200, hooks=hooks) as run:
            fill_for_a_while(run, disk, deployment.broker.daemon)
            verify("everything: disk full for 15 s (SQLite, folder)", run)
            assert "database or disk is full" in run.supervisor.logs
