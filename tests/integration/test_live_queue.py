"""A live image is graded while a worker is busy with bulk chunks, and its message is acknowledged."""

import sqlite3
from pathlib import Path

from redis import Redis

from tests.integration.processes import fundus, wait_until_finished
from tests.integration.stub_devices import devices, stub_settings
from tests.integration.test_duties import copies, wait_for
from tests.services.seaweedfs import Bucket

BULK = 96
IMAGE_S = 0.05
"""The bulk chunk is on the device for 4.8 s after a worker has taken the live image, which needs 0.1 s to reach it."""


def test_live_image_overtakes_a_bulk_chunk(tmp_path: Path, sqlite_url: str, broker_url: str, bucket: Bucket) -> None:
    env = stub_settings(sqlite_url, broker_url, bucket, tmp_path) | {
        "FUNDUS_CONCURRENCY": "1",
        "FUNDUS_REPORTS": "false",
        "STUB_IMAGE_S": str(IMAGE_S),
        "STUB_GATE": str(gate := tmp_path / "gate"),
    }
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=30) as ledger, devices(1, env):

        def wait_for_leases(run: str, count: int) -> None:
            query = "SELECT count(*) FROM gradings JOIN runs USING (run_id) WHERE name = ? AND lease_token IS NOT NULL"
            wait_for(lambda: ledger.execute(query, (run,)).fetchone() == (count,))

        bulk, live = copies(tmp_path / "bulk", BULK), copies(tmp_path / "live", 1)
        fundus("enqueue", str(bulk), "--run", "bulk", "--chunk", str(BULK), env=env)
        wait_for_leases("bulk", BULK)
        fundus("enqueue", str(live), "--run", "live", "--queue", "live", "--chunk", "1", env=env)
        wait_for_leases("live", 1)
        gate.touch()
        wait_until_finished("live", env)
        wait_until_finished("bulk", env)
    settled = dict(
        ledger.execute(
            "SELECT name, min(settled_at) FROM gradings JOIN runs USING (run_id) WHERE status = 'graded' GROUP BY name"
        ).fetchall()
    )
    assert settled["live"] < settled["bulk"]
    with Redis.from_url(broker_url) as broker:
        assert broker.hlen("unacked") == 0
        assert broker.llen("live") == broker.llen("bulk") == 0
