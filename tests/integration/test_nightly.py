"""Nights with real processes: beat tasks, exit statuses, two at the same time, and one that is killed."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import Engine

from producer.runs.enqueue import BATCH_IMAGES
from producer.runs.lifecycle import Night, RunRequest, open_run
from producer.runs.nightly import NightRequest, NightResult, enqueue_night
from tests.integration.processes import FUNDUS, fundus, fundus_json
from tests.services.seaweedfs import Bucket
from tests.services.webhook import Webhook, run_webhook
from tests.unit.producer.ledger_rows import add_model
from worker.core.errors import OverlapError, RunError, SourceError, UsageError
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.core.vocabulary import RunState
from worker.ledger.locks import locked
from worker.ledger.runs import find_run

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
TASKS_PROGRAM = """
import json
from worker.app import app, close_nights, nightly, retention
entries = {
    name: [entry["task"], sorted(entry["schedule"].hour)[:2], sorted(entry["schedule"].minute)[:2], entry["options"]]
    for name, entry in app.conf.beat_schedule.items()
}
late = {"version": 1, "date": "2026-03-01"}
print(json.dumps([entries, nightly.run(), close_nights.run(), retention.run(), nightly.run(late)["run"]]))
"""
TOKEN = "marked-token-of-a-webhook"
MANY = 3 * BATCH_IMAGES


def run_beat_tasks(env: dict[str, str]) -> Any:
    """Return the schedule of beat, then the result of each of its tasks."""
    done = subprocess.run(
        [sys.executable, "-c", TASKS_PROGRAM], env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shutil.copy(SAMPLES / "IDRiD_020.jpg", inbox)
    return inbox


@pytest.fixture
def env(tmp_path: Path, sqlite_url: str, broker_url: str, inbox: Path) -> dict[str, str]:
    return {
        "FUNDUS_DATABASE_URL": sqlite_url,
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "FUNDUS_NIGHTLY_SOURCE": str(inbox),
        "FUNDUS_NIGHTLY_AT": "02:30",
        "FUNDUS_REPORTS_DIR": str(tmp_path / "reports"),
        "FUNDUS_RETAIN_OVERLAYS_DAYS": "90",
    }


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with run_webhook() as webhook:
        yield webhook


def rows(env: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(env["FUNDUS_DATABASE_URL"].removeprefix("sqlite:///"), timeout=30) as connection:
        return connection.execute(query).fetchall()


def test_beat_and_cron_enqueue_each_photograph_once(env: dict[str, str], inbox: Path) -> None:
    schedule, night, closed, retention, late = run_beat_tasks(env)
    assert schedule == {
        "nightly": ["fundus.nightly", [2], [30], {"queue": "duties"}],
        "close-nights": ["fundus.morning", [0, 1], [0, 10], {"queue": "duties", "expires": 600}],
        "retention": ["fundus.retention", [12], [0], {"queue": "duties"}],
    }
    assert (night["found"], night["new"]) == (1, 1)
    assert night["run"].startswith("nightly-2")
    assert late == "nightly-2026-03-01", "a message that is taken late names the night on which it was due"
    assert closed == {}
    assert retention.pop("held") == []
    assert set(retention.values()) == {0}

    shutil.copy(SAMPLES / "IDRiD_047.jpg", inbox)
    again = fundus_json("nightly", env=env)
    assert (again["found"], again["new"], again["run"]) == (2, 1, night["run"])
    assert rows(env, "SELECT count(*), count(DISTINCT image_id) FROM gradings") == [(2, 2)]
    assert Redis.from_url(env["FUNDUS_BROKER_URL"]).llen("bulk") == 2


@pytest.mark.parametrize("time_zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_command_names_the_night_by_the_local_date(env: dict[str, str], time_zone: str) -> None:
    """One of these two dates is never that of UTC."""
    done = fundus_json("nightly", env=env | {"FUNDUS_TIME_ZONE": time_zone})
    assert done["run"] == f"nightly-{datetime.now(ZoneInfo(time_zone)):%Y-%m-%d}"


def test_schedule_is_empty_without_source_and_retention(broker_url: str) -> None:
    code = "from worker.app import app; print(app.conf.beat_schedule)"
    env = {**os.environ, "FUNDUS_BROKER_URL": broker_url}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{}"


@pytest.fixture
def night(
    engine: Engine, broker_url: str, make_settings: Callable[..., Settings], inbox: Path
) -> Callable[..., NightResult]:
    settings = make_settings(broker_url=broker_url, lease_s=5.0)
    app: Celery = make_celery(settings)

    def fill(
        day: int, source: str | Path = inbox, *, s3_endpoint_url: str | None = None, **request: Any
    ) -> NightResult:
        own = settings.model_copy(update={"s3_endpoint_url": s3_endpoint_url})
        wanted = NightRequest(str(source), date(2026, 11, day), **request)
        return enqueue_night(engine, app, own, wanted, on_warning=print)

    return fill


def test_next_night_enqueues_a_changed_file(night: Callable[..., NightResult], inbox: Path) -> None:
    shutil.copy(SAMPLES / "IDRiD_047.jpg", inbox)
    assert night(1).new == 2
    (inbox / "IDRiD_020.jpg").write_bytes((SAMPLES / "IDRiD_055.jpg").read_bytes())
    assert night(1).new == 0  # already in this night
    assert (night(2).new, night(3).new) == (1, 0)


def test_next_night_enqueues_a_changed_object(night: Callable[..., NightResult], bucket: Bucket) -> None:
    def put(key: str, data: bytes) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)

    put("inbox/a.jpg", b"first")
    put("inbox/b.jpg", b"first")
    night = partial(night, s3_endpoint_url=bucket.endpoint_url)
    source = f"s3://{bucket.name}/inbox/"
    assert night(1, source).new == 2
    put("inbox/a.jpg", b"second")
    put("inbox/b.jpg", b"first")  # uploaded again unchanged
    assert (night(2, source).new, night(3, source).new) == (1, 0)


def test_missed_nights_are_made_up(night: Callable[..., NightResult], engine: Engine, inbox: Path) -> None:
    assert (night(1).missed, night(2).missed) == (0, 0)
    for name in ("IDRiD_047.jpg", "IDRiD_055.jpg"):  # of the 3rd and the 4th, without a night
        shutil.copy(SAMPLES / name, inbox)
    done = night(5)
    assert (done.new, done.missed, done.run) == (2, 2, "nightly-2026-11-05")
    broken_off = Night("nightly", date(2026, 11, 6))
    open_run(engine, RunRequest(broken_off.run_name, "x", night=broken_off), default_chunk_size=8)
    shutil.copy(SAMPLES / "IDRiD_138.jpg", inbox)
    done = night(7)
    assert (done.new, done.missed, done.sealed) == (1, 0, ("nightly-2026-11-06",))
    assert find_run(engine, "nightly-2026-11-06").state == RunState.FINISHED


def test_since_skips_older_photographs(night: Callable[..., NightResult], inbox: Path) -> None:
    shutil.copy(SAMPLES / "IDRiD_047.jpg", inbox)
    os.utime(inbox / "IDRiD_047.jpg", (0, 0))
    first = night(1, since="2026-01-01")
    assert (first.found, first.new, first.older) == (1, 1, 1)
    os.utime(inbox / "IDRiD_020.jpg", (10**12, 10**12))  # a modification time in the future hides no later file
    shutil.copy(SAMPLES / "IDRiD_055.jpg", inbox)
    assert (night(2, since="last").new, night(3, since="last").older) == (2, 1)
    assert night(4).new == 1
    with pytest.raises(UsageError, match="neither `last` nor a date"):
        night(5, since="soon")


def test_programme_has_its_own_runs_and_lock(night: Callable[..., NightResult], engine: Engine) -> None:
    with locked(engine, "nightly:north", lock_s=60):
        assert night(1).new == 1
        with pytest.raises(OverlapError, match="lock 'nightly:north' is held by another process"):
            night(1, programme="north")
    done = night(1, programme="north")
    assert (done.run, done.new) == ("north-2026-11-01", 1)
    with pytest.raises(UsageError, match="programme 'a b' must be"):
        night(1, programme="a b")


def test_night_can_be_bound_to_a_model(night: Callable[..., NightResult], engine: Engine) -> None:
    for model in ("old", "new"):
        add_model(engine, model)
    assert night(1, model="old").new == 1
    assert night(1).new == 0
    with pytest.raises(RunError, match="run nightly-2026-11-01 has model old, not new"):
        night(1, model="new")
    shadow = night(1, programme="shadow", model="new")
    assert (shadow.run, shadow.new) == ("shadow-2026-11-01", 1)
    assert [find_run(engine, name).model_id for name in ("nightly-2026-11-01", "shadow-2026-11-01")] == ["old", "new"]
    with pytest.raises(RunError, match="no model 'newest'"):
        night(2, model="newest")


def test_unreadable_source_leaves_neither_night_nor_lock(night: Callable[..., NightResult], inbox: Path) -> None:
    for _ in range(2):
        with pytest.raises(SourceError, match="no file or folder"):
            night(1, source=inbox / "none")
    assert night(1).new == 1


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A manifest of three registration batches."""
    manifest = tmp_path / "many.csv"
    manifest.write_text("uri\n" + "".join(f"eye-{number}.jpg\n" for number in range(MANY)))
    return manifest


def start(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [FUNDUS, *arguments],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(env: dict[str, str], query: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not rows(env, query)[0][0]:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_second_of_two_simultaneous_nights_exits_with_status_3(env: dict[str, str], many: Path) -> None:
    first = start(env, "nightly", str(many), "--json")
    wait_for(env, "SELECT count(*) FROM gradings", first)
    first.send_signal(signal.SIGSTOP)  # while the second one runs
    second = fundus("nightly", str(many), env=env, check=False)
    first.send_signal(signal.SIGCONT)
    assert (second.returncode, second.stdout) == (3, "")
    assert second.stderr.startswith("error[overlap]: lock 'nightly:nightly' is held by another process")
    out, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (0, "")
    assert json.loads(out)["new"] == MANY
    assert rows(env, "SELECT count(*), count(DISTINCT image_id) FROM gradings") == [(MANY, MANY)]


def test_killed_night_is_completed_after_its_lock_expires(env: dict[str, str], many: Path) -> None:
    env["FUNDUS_LEASE_S"] = "2"
    first = start(env, "nightly", str(many))
    wait_for(env, "SELECT count(*) FROM gradings", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    (registered,) = rows(env, "SELECT count(*) FROM gradings")[0]
    assert 0 < registered < MANY
    assert rows(env, "SELECT state FROM runs") == [("open",)]

    killed_at, statuses = time.monotonic(), []
    while not statuses or statuses[-1] == 3:
        done = fundus("nightly", str(many), "--json", env=env, check=False)
        statuses.append(done.returncode)
    assert set(statuses[:-1]) <= {3}
    assert statuses[-1] == 0
    assert time.monotonic() - killed_at < 60
    assert json.loads(done.stdout)["new"] == MANY - registered
    assert rows(env, "SELECT count(*), count(DISTINCT image_id) FROM gradings") == [(MANY, MANY)]
    assert rows(env, "SELECT state FROM runs") == [("running",)]
    # Images registered and not sent are left to the reconciler.
    sent = Redis.from_url(env["FUNDUS_BROKER_URL"]).llen("bulk")
    assert sent <= -(-MANY // 32) + 1


def test_reconcile_command_resends_lost_messages(env: dict[str, str], inbox: Path) -> None:
    env |= {"FUNDUS_RESEND_AFTER_S": "0.2", "FUNDUS_RECONCILE_EVERY_S": "0.5"}
    fundus("nightly", env=env)
    broker = Redis.from_url(env["FUNDUS_BROKER_URL"])
    broker.flushall()
    time.sleep(0.3)
    assert fundus_json("reconcile", env=env)["sent_again"] == 1
    assert broker.llen("bulk") == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"FUNDUS_NIGHTLY_SOURCE": "/nowhere"}, 2, "source_invalid"),
        ({"FUNDUS_BROKER_URL": "redis://127.0.0.1:1/0"}, 1, "broker_unavailable"),
    ],
)
def test_night_that_fails_raises_an_alarm_and_tells_cron(
    change: dict[str, str], status: int, code: str, env: dict[str, str], webhook: Webhook
) -> None:
    env["FUNDUS_ALARM_URLS"] = f"json://127.0.0.1:{webhook.port}/{TOKEN}"
    done = fundus("nightly", env=env | change, check=False)
    assert done.returncode == status
    assert f"error[{code}]" in done.stderr
    ((path, call),) = webhook.calls
    assert path == f"/{TOKEN}"
    assert call["title"].endswith("was not enqueued")
    assert call["message"] == f"{code}: see the output of `fundus nightly`."
    assert TOKEN not in done.stdout + done.stderr


def test_alarm_that_is_not_taken_hides_no_error(env: dict[str, str], webhook: Webhook) -> None:
    webhook.status = 500
    env |= {"FUNDUS_ALARM_URLS": f"json://127.0.0.1:{webhook.port}/{TOKEN}", "FUNDUS_NIGHTLY_SOURCE": "/nowhere"}
    done = fundus("nightly", env=env, check=False)
    assert done.returncode == 2
    assert "error[source_invalid]" in done.stderr
    assert "alarm_undelivered" in done.stderr + done.stdout
    assert TOKEN not in done.stdout + done.stderr
