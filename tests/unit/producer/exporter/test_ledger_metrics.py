"""Metrics as Prometheus scrapes them, and the metrics that the alert rules use."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, insert, update

from producer.exporter.disk_metrics import DiskCollector
from producer.exporter.ledger_metrics import LedgerCollector
from producer.exporter.night_metrics import DRIFT_LEVELS, NOT_COMPARED
from producer.runs.lifecycle import Night, RunRequest, open_run, seal_run
from producer.runs.resend import resend
from tests.integration.processes import FUNDUS, READY_WITHIN_S
from tests.services.ports import reserve_port
from tests.unit.producer.ledger_rows import (
    NOON,
    add_model,
    change,
    fail,
    grade,
    lease,
    make_night,
    make_run,
    references,
)
from worker.core.errors import BrokerError, FundusError
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Queue, RunKind, Status
from worker.evaluation.drift.psi import DriftLevel
from worker.ledger.database import connect, epoch_now, write_transaction
from worker.ledger.retention import run_retention
from worker.ledger.runs import Run
from worker.ledger.schema import locks, nights, runs

ALERTS = Path(__file__).parents[4] / "deploy" / "prometheus" / "alerts.yml"

OF_LABELS_IN_THE_LEDGER = {
    "fundus_errors",
    "fundus_stranded_images",
    "fundus_runs_not_validated",
    "fundus_programme_last_night_timestamp_seconds",
    "fundus_programme_interval_seconds",
}
"""Metrics without samples in an empty ledger."""

Samples = dict[tuple[str, ...], float]


def scrape(
    engine: Engine,
    queue_depth: Callable[[Queue], int] = lambda _: 0,
    on_error: Callable[[FundusError], object] = lambda _: None,
) -> Samples:
    """Return values by metric name and label values, in the order of the label names."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(engine, queue_depth, on_error))
    return read(generate_latest(registry).decode())


def read(text: str) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_of_an_empty_ledger_are_zero(engine: Engine) -> None:
    found = scrape(engine)
    assert found["fundus_ledger_up",] == found["fundus_broker_up",] == 1
    rest = {key: value for key, value in found.items() if key[0] not in ("fundus_ledger_up", "fundus_broker_up")}
    assert rest["fundus_reconciler_active",] == 0
    assert rest.pop(("fundus_exporter_seconds",)) > 0
    assert rest.pop(("fundus_ledger_bytes",)) > 100_000
    assert set(rest.values()) == {0.0}


def test_images_are_counted_by_outcome(engine: Engine) -> None:
    add_model(engine)
    run = make_run(engine, "july", references("a", "b", "c", "d", "e", "f"))
    ago = datetime.now(UTC) - timedelta(minutes=20)
    grade(engine, run, "a", 3, at=ago)
    grade(engine, run, "b", 0, at=ago - timedelta(hours=1))
    fail(engine, run, "c", "blurred", Status.UNGRADABLE, at=ago)
    fail(engine, run, "d", "image_missing", at=ago)
    lease(engine, run, "e", seconds=-5)
    lease(engine, run, "f", seconds=60)
    found = scrape(engine)
    assert {key[1]: value for key, value in found.items() if key[0] == "fundus_images"} == {
        "queued": 2, "graded": 2, "ungradable": 1, "failed": 1, "quarantined": 0, "cancelled": 0,
    }  # fmt: skip
    assert (found["fundus_graded_images", "3"], found["fundus_graded_images", "4"]) == (1, 0)
    assert found["fundus_errors", "blurred", "ungradable"] == found["fundus_errors", "image_missing", "failed"] == 1
    assert found["fundus_queued_images", "bulk"] == 2
    assert found["fundus_runs", "running"] == 1
    assert found["fundus_expired_leases",] == 1
    assert {key[1]: value for key, value in found.items() if key[0] == "fundus_attempted_images"} == {"0": 2, "1": 4}
    assert found["fundus_idle_seconds",] == pytest.approx(20 * 60, abs=30)


def test_run_without_outcomes_has_been_idle_since_it_was_enqueued(engine: Engine) -> None:
    run = make_run(engine, "july", references("a"))
    with write_transaction(engine) as connection:
        connection.execute(
            update(runs).where(runs.c.run_id == run.run_id).values(created_at=datetime.now(UTC) - timedelta(hours=2))
        )
    found = scrape(engine)
    assert found["fundus_idle_seconds",] == pytest.approx(7200, abs=30)
    assert found["fundus_oldest_queued_seconds", "bulk"] == pytest.approx(7200, abs=30)
    assert found["fundus_oldest_queued_seconds", "live"] == 0


def age(engine: Engine, run: Run, hours: float) -> None:
    created = datetime.now(UTC) - timedelta(hours=hours)
    with write_transaction(engine) as connection:
        connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(created_at=created))


def test_live_wait_is_that_of_the_image(engine: Engine) -> None:
    run = make_run(engine, "clinic", references("morning", "now"), queue=Queue.LIVE)
    age(engine, run, 8)
    add_model(engine)
    grade(engine, run, "morning", 0)
    assert scrape(engine)["fundus_live_wait_seconds",] == pytest.approx(0, abs=60)
    change(engine, run, "now", queued_at=datetime.now(UTC) - timedelta(minutes=6))
    assert scrape(engine)["fundus_live_wait_seconds",] == pytest.approx(360, abs=60)
    change(engine, run, "now", queued_at=None)  # enqueued by version 0.1
    assert scrape(engine)["fundus_live_wait_seconds",] == pytest.approx(8 * 3600, abs=60)


def test_resent_image_begins_to_wait_again(engine: Engine, broker_url: str) -> None:
    run = make_run(engine, "clinic", references("a"), queue=Queue.LIVE)
    fail(engine, run, "a", "image_missing")
    change(engine, run, "a", queued_at=NOON)
    settings = parse_settings(broker_url=broker_url)
    resend(engine, make_celery(settings), settings, "clinic", {Status.FAILED})
    assert scrape(engine)["fundus_live_wait_seconds",] == pytest.approx(0, abs=60)


def test_open_run_ages_until_it_is_sealed(engine: Engine) -> None:
    run, _ = open_run(engine, RunRequest(name="july", source="test"), default_chunk_size=2)
    age(engine, run, 7)
    assert scrape(engine)["fundus_oldest_open_run_seconds",] == pytest.approx(7 * 3600, abs=60)
    seal_run(engine, run)
    assert scrape(engine)["fundus_oldest_open_run_seconds",] == 0


def test_each_programme_has_its_last_night_and_usual_interval(engine: Engine) -> None:
    """The intervals are those of the dates; one programme has had one night, another has ended."""
    today = datetime.now(UTC).date()
    for programme, days_ago in {"daily": (5, 4, 3, 1), "weekly": (15, 8, 1), "once": (1,), "ended": (40, 39)}.items():
        for days in days_ago:
            night = Night(programme, today - timedelta(days=days))
            request = RunRequest(night.run_name, "test", kind=RunKind.NIGHTLY, night=night)
            run, _ = open_run(engine, request, default_chunk_size=2)
            age(engine, run, 24 * days)
    found = scrape(engine)
    intervals = {key[1]: value for key, value in found.items() if key[0] == "fundus_programme_interval_seconds"}
    assert intervals == {"daily": 86400, "weekly": 7 * 86400}
    day_ago = time.time() - 86400
    assert found["fundus_programme_last_night_timestamp_seconds", "weekly"] == pytest.approx(day_ago, abs=60)


def test_completed_retention_is_recorded(make_settings: Callable[..., Settings], sqlite_url: str) -> None:
    engine = connect(parse_settings(database_url=sqlite_url))
    run_retention(make_settings(database_url=sqlite_url))
    assert scrape(engine)["fundus_last_retention_timestamp_seconds",] == 0, "nothing was to be retained"
    for _ in range(2):
        run_retention(make_settings(database_url=sqlite_url, retain_rows_days=30))
        assert scrape(engine)["fundus_last_retention_timestamp_seconds",] == pytest.approx(time.time(), abs=60)


def test_runs_that_finished_long_ago_are_not_counted(engine: Engine) -> None:
    add_model(engine)
    for name, days in {"old": 3, "new": 0.5}.items():
        run = make_run(engine, name, references(f"{name}-a"))
        grade(engine, run, f"{name}-a", 2)
        with write_transaction(engine) as connection:
            connection.execute(
                update(runs)
                .where(runs.c.run_id == run.run_id)
                .values(state="finished", finished_at=datetime.now(UTC) - timedelta(days=days))
            )
    found = scrape(engine)
    assert found["fundus_images", "graded"] == 1
    assert found["fundus_idle_seconds",] == 0


@pytest.mark.parametrize(("until", "active"), [(60, 1), (-1, 0)])
def test_reconciler_is_active_while_its_lock_is_held(engine: Engine, until: int, active: int) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(locks).values(name="reconciler", holder="a", until=epoch_now() + until))
    assert scrape(engine)["fundus_reconciler_active",] == active


def test_last_night_is_the_latest_nightly_run(engine: Engine) -> None:
    make_night(engine, 21, references("a"))
    make_run(engine, "by-hand", references("b"))
    assert scrape(engine)["fundus_last_night_timestamp_seconds",] == pytest.approx(time.time(), abs=30)


def test_nights_are_counted_by_pending_step_and_by_drift(engine: Engine) -> None:
    recently, long_ago = (datetime.now(UTC) - timedelta(hours=hours) for hours in (2, 30))
    for day, state, verdict, closed_at, told_at in (
        (1, "finished", "drift", long_ago, long_ago),
        (2, "finished", "drift", recently, None),
        (3, "finished", "stable", recently, recently),
        (4, "cancelled", None, recently, recently),
        (5, "finished", None, None, None),
        (6, "running", None, None, None),
    ):
        run = make_night(engine, day, references(f"{day}-a"))
        finished_at = recently if state == "finished" else None
        with write_transaction(engine) as connection:
            of_run = runs.c.run_id == run.run_id
            connection.execute(update(runs).where(of_run).values(state=state, finished_at=finished_at))
            closing = {"verdict": verdict, "closed_at": closed_at, "told_at": told_at}
            connection.execute(update(nights).where(nights.c.run_id == run.run_id).values(closing))
    found = scrape(engine)
    assert {key[1]: value for key, value in found.items() if key[0] == "fundus_nights_waiting"} == {
        "close": 1, "alert": 1,
    }  # fmt: skip
    assert {key[1]: value for key, value in found.items() if key[0] == "fundus_closed_nights"} == {
        "stable": 1, "watch": 0, "drift": 1, "none": 1,
    }  # fmt: skip


def test_drift_levels_are_complete() -> None:
    assert (*DriftLevel, NOT_COMPARED) == DRIFT_LEVELS


def test_metrics_of_other_services_survive_one_that_is_down(engine: Engine, tmp_path: Path) -> None:
    errors: list[FundusError] = []

    def unreachable(_queue: Queue) -> int:
        raise BrokerError("connection refused")

    found = scrape(engine, unreachable, errors.append)
    assert (found["fundus_ledger_up",], found["fundus_broker_up",]) == (1, 0)
    down = connect(parse_settings(database_url=f"sqlite:///{tmp_path / 'none' / 'ledger.db'}"))
    found = scrape(down, lambda queue: len(queue), errors.append)
    assert (found["fundus_ledger_up",], found["fundus_broker_up",]) == (0, 1)
    assert found["fundus_queue_messages", "live"] == 4
    assert [error.code for error in errors] == ["broker_unavailable", "database_unavailable"]


def test_every_metric_of_an_alert_rule_is_exported(engine: Engine, tmp_path: Path) -> None:
    disks = CollectorRegistry()
    disks.register(DiskCollector({"store": tmp_path}, pytest.fail))
    exported = {key[0] for key in scrape(engine) | read(generate_latest(disks).decode())}
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 9
    for rule in rules:
        named = set(re.findall(r"fundus_\w+", rule["expr"]))
        assert named
        assert named <= exported | OF_LABELS_IN_THE_LEDGER, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_command_serves_until_it_is_stopped(sqlite_url: str, broker_url: str) -> None:
    port = reserve_port()
    env = {"FUNDUS_DATABASE_URL": sqlite_url, "FUNDUS_BROKER_URL": broker_url, "PATH": ""}
    command = [FUNDUS, "exporter", "--port", str(port), "--disk", "machine=/"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        found = read(_get(f"http://127.0.0.1:{port}/metrics"))
        assert found["fundus_ledger_up",] == found["fundus_broker_up",] == 1
        assert found["fundus_disk_bytes", "machine"] > found["fundus_disk_free_bytes", "machine"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_port_in_use_is_named(sqlite_url: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [FUNDUS, "exporter", "--port", str(port)],
            env={"FUNDUS_DATABASE_URL": sqlite_url, "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def _get(url: str) -> str:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            with urlopen(url, timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except URLError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
