"""A live image is graded while a worker is busy with bulk chunks, and its message is acknowledged."""

import shutil
import sqlite3
import time
from pathlib import Path

from redis import Redis

from tests.integration.processes import fundus, wait_until_finished, worker

SAMPLE = Path(__file__).parents[2] / "producer" / "demo" / "samples" / "IDRiD_001.jpg"
BULK = 96
"""Drawing these takes ten times as long as the live image needs from its registration to its outcome."""


def test_live_image_overtakes_a_bulk_chunk(tmp_path: Path, sqlite_url: str, broker_url: str) -> None:
    env = {
        "FUNDUS_DATABASE_URL": sqlite_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "FUNDUS_CONCURRENCY": "1",
        # Large overlays are slow to render, so that the bulk chunk is still in progress.
        "FUNDUS_OVERLAY_SIZE_PX": "2048",
        "FUNDUS_OVERLAY_FORMAT": "png",
        "FUNDUS_REPORTS": "false",
    }
    for name in [f"bulk/{number:03}.jpg" for number in range(BULK)] + ["live/patient.jpg"]:
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLE, target)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as ledger, worker(env, tmp_path / "worker.log"):
        fundus("enqueue", str(tmp_path / "bulk"), "--run", "bulk", "--chunk", str(BULK), env=env)
        while ledger.execute("SELECT count(*) FROM gradings WHERE lease_token IS NOT NULL").fetchone() != (BULK,):
            time.sleep(0.01)
        fundus("enqueue", str(tmp_path / "live"), "--run", "live", "--queue", "live", "--chunk", "1", env=env)
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
