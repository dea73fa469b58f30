"""Beat's duties are done while bulk chunks wait, by a real worker and from real messages of beat's scheduler."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from redis import Redis

from tests.integration.processes import fundus, wait_until_finished
from tests.integration.stub_devices import devices, stub_settings
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import Orthanc
from tests.services.published_objects import StoredObjects, read_objects
from tests.services.seaweedfs import Bucket
from worker.core.local_date import local_date
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.maintenance import beat_tasks

SAMPLE = Path(__file__).parents[2] / "producer" / "demo" / "samples" / "IDRiD_001.jpg"
IMAGES = 16


def send_duties(settings: Settings, folder: Path, *chosen: str) -> list[str]:
    """Send every duty once, or those chosen, as beat does when they are due; return their names."""
    app: Celery = make_celery(settings)
    app.conf.beat_schedule = beat_tasks.schedule(settings)
    scheduler = PersistentScheduler(app, schedule_filename=str(folder / "schedule"), lazy=True)
    scheduler.setup_schedule()
    names = [*chosen] or [name for name in scheduler.schedule if not name.startswith("celery.")]
    for name in names:
        scheduler.apply_entry(scheduler.schedule[name], producer=scheduler.producer)
    scheduler.close()
    return names


def copies(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        shutil.copy(SAMPLE, folder / f"{number:03}.jpg")
    return folder


def wait_for(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_night_starts_while_bulk_chunks_wait(
    tmp_path: Path, sqlite_url: str, broker_url: str, bucket: Bucket, make_settings: Callable[..., Settings]
) -> None:
    env = stub_settings(sqlite_url, broker_url, bucket, tmp_path) | {
        "FUNDUS_CONCURRENCY": "1",
        "FUNDUS_REPORTS": "false",
        "FUNDUS_NIGHTLY_SOURCE": str(copies(tmp_path / "inbox", 1)),
        "FUNDUS_RETAIN_OVERLAYS_DAYS": "90",
        "STUB_IMAGE_S": "0",
        "STUB_GATE": str(gate := tmp_path / "gate"),
    }
    settings = make_settings(
        database_url=sqlite_url,
        broker_url=broker_url,
        nightly_source=env["FUNDUS_NIGHTLY_SOURCE"],
        retain_overlays_days=90,
    )
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as ledger, devices(1, env):
        fundus("enqueue", str(copies(tmp_path / "bulk", IMAGES)), "--run", "bulk", env=env)
        wait_for(
            lambda: ledger.execute("SELECT count(*) FROM gradings WHERE lease_token IS NOT NULL").fetchone() != (0,)
        )
        assert sorted(send_duties(settings, tmp_path)) == ["close-nights", "nightly", "retention"]
        ((night,),) = wait_for(lambda: ledger.execute("SELECT name FROM runs WHERE kind = 'nightly'").fetchall())
        assert ledger.execute("SELECT count(*) FROM gradings WHERE settled_at IS NOT NULL").fetchone() == (0,)
        gate.touch()
        wait_until_finished("bulk", env)
        wait_until_finished(night, env)
    with Redis.from_url(broker_url) as broker:
        assert broker.hlen("unacked") == 0
        assert broker.llen("duties") == broker.llen("bulk") == 0


def test_night_of_a_pacs_is_graded_and_published_by_duties_alone(
    tmp_path: Path,
    sqlite_url: str,
    broker_url: str,
    bucket: Bucket,
    pacs: Orthanc,
    make_settings: Callable[..., Settings],
) -> None:
    exposures = [Exposure(name=name, study_date=f"{local_date('UTC'):%Y%m%d}") for name in ("first", "second")]
    pacs.add(*(make_photograph(SAMPLE.read_bytes(), exposure) for exposure in exposures))
    values = {"nightly_source": "dicomweb://pacs", "publish": "sr,overlay", "patient_key": "k" * 32}
    env = stub_settings(sqlite_url, broker_url, bucket, tmp_path) | {
        **{f"FUNDUS_{name.upper()}": value for name, value in values.items()},
        "FUNDUS_REPORTS": "false",
        "STUB_IMAGE_S": "0",
    }
    settings = make_settings(database_url=sqlite_url, broker_url=broker_url, **values)
    published = "SELECT count(*) FROM outbox WHERE state = 'published'"
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as ledger, devices(1, env):
        assert "publish" in send_duties(settings, tmp_path)
        ((night,),) = wait_for(lambda: ledger.execute("SELECT name FROM runs WHERE kind = 'nightly'").fetchall())
        wait_until_finished(night, env)
        # Every five minutes, and at once here.
        send_duties(settings, tmp_path, "publish")
        wait_for(lambda: ledger.execute(published).fetchone() == (4,))
    assert read_objects(pacs, [one.instance_uid for one in exposures]) == StoredObjects(2, 2, twice=0)
