"""Closing nights in a real ledger, with alerts sent to a real HTTP server."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from producer.cli import app
from producer.runs.lifecycle import seal_run
from producer.runs.register import register_batch
from tests.services.ports import reserve_port
from tests.services.webhook import Webhook, run_webhook
from tests.unit.interleaving import interleave
from tests.unit.producer.ledger_rows import NOON, fail, grade, lease, make_night, references
from worker.core.errors import AlertError, OverlapError
from worker.core.settings import Settings
from worker.core.vocabulary import Status
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.locks import LockResult, acquire_lock
from worker.ledger.schema import models, nights, reports, runs
from worker.maintenance.close_nights import ClosedNight, close_ended_nights
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

MANIFEST = read_any_manifest(find_bundle(DEFAULT_BUNDLE))
MOSTLY_HEALTHY, MOSTLY_REFERABLE = {0: 80, 2: 20}, {0: 20, 2: 80}


@dataclass
class Clinic:
    engine: Engine
    settings: Settings
    webhook: Webhook

    def night(self, day: int, grades: dict[int, int], *, failed: int = 0, model_id: str = MANIFEST.model_id) -> None:
        """Add a finished night; grades: number of images by grade."""
        names = [f"{day}-{found}-{number}" for found, count in grades.items() for number in range(count)]
        broken = [f"{day}-broken-{number}" for number in range(failed)]
        run = make_night(self.engine, day, references(*names, *broken))
        for name in names:
            grade(self.engine, run, name, int(name.split("-")[1]), model_id=model_id)
        for name in broken:
            fail(self.engine, run, name, "image_missing")
        with write_transaction(self.engine) as connection:
            connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=model_id))
        seal_run(self.engine, run)

    def close(self, **settings: Any) -> list[ClosedNight]:
        return close_ended_nights(self.settings.model_copy(update=settings))

    def states(self) -> list[tuple[bool, str | None, bool]]:
        """Return for each night whether it is closed, its verdict, and whether its alert was sent."""
        with read_transaction(self.engine) as connection:
            rows = connection.execute(select(nights).order_by(nights.c.night)).all()
        return [(row.closed_at is not None, row.verdict, row.told_at is not None) for row in rows]


@pytest.fixture
def clinic(sqlite_url: str, make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Clinic]:
    with run_webhook() as webhook:
        settings = make_settings(
            database_url=sqlite_url,
            decode_processes=1,
            reports_dir=tmp_path / "reports",
            alarm_urls=f"json://127.0.0.1:{webhook.port}/",
        )
        engine = connect(settings)
        with write_transaction(engine) as connection:
            for model_id in (MANIFEST.model_id, "f" * 64):
                document = MANIFEST.model_dump(mode="json")
                row = {"model_id": model_id, "name": "m", "document": document, "registered_at": NOON}
                connection.execute(models.insert().values(row))
        yield Clinic(engine, settings, webhook)
        engine.dispose()


def test_ended_night_gets_its_report_and_verdict_once(clinic: Clinic) -> None:
    clinic.night(1, MOSTLY_HEALTHY)
    clinic.night(2, MOSTLY_HEALTHY)
    first, second = clinic.close()
    assert (first.run, first.verdict, first.by_status["graded"]) == ("nightly-2026-11-01", None, 100)
    assert (second.run, second.verdict, second.findings) == ("nightly-2026-11-02", "stable", ())
    pages = clinic.settings.reports_dir / "nightly-2026-11-02"
    assert second.report == str(pages / "index.html")
    assert "nightly-2026-11-01" in (pages / "index.html").read_text()
    assert json.loads((pages / "drift.json").read_text())["baseline"] == "nightly-2026-11-01"
    assert clinic.states() == [(True, None, True), (True, "stable", True)]
    assert clinic.close() == clinic.webhook.calls == []


def test_drift_sends_an_alert_and_a_drifted_night_is_no_baseline(clinic: Clinic) -> None:
    clinic.night(1, MOSTLY_HEALTHY)
    clinic.night(2, MOSTLY_REFERABLE)
    clinic.night(3, MOSTLY_REFERABLE)
    assert [night.verdict for night in clinic.close()] == [None, "drift", "drift"]
    assert clinic.webhook.titles == ["nightly-2026-11-02 needs attention", "nightly-2026-11-03 needs attention"]
    for _, call in clinic.webhook.calls:
        found = "the images have drifted since nightly-2026-11-01: population stability index of grade"
        assert found in call["message"]


def test_baseline_can_be_set(clinic: Clinic) -> None:
    for day, grades in enumerate((MOSTLY_REFERABLE, MOSTLY_HEALTHY, MOSTLY_REFERABLE), start=1):
        clinic.night(day, grades)
    closed = clinic.close(drift_baseline="nightly-2026-11-01")
    assert [night.verdict for night in closed] == ["stable", "drift", "stable"]
    clinic.night(4, MOSTLY_REFERABLE)
    (night,) = clinic.close(drift_baseline="none")
    assert night.verdict is None
    assert night.findings == ("drift was not measured: no run 'none'; `fundus status` lists them",)


def test_night_of_another_model_is_no_baseline(clinic: Clinic) -> None:
    clinic.night(1, MOSTLY_HEALTHY, model_id="f" * 64)
    clinic.night(2, MOSTLY_REFERABLE)
    assert [night.verdict for night in clinic.close()] == [None, None]


def test_too_many_failures_send_an_alert(clinic: Clinic) -> None:
    clinic.night(1, {0: 98}, failed=2)
    clinic.night(2, {0: 97}, failed=3)
    assert [night.findings for night in clinic.close()] == [
        (),
        ("3 of 100 images failed (limit 2%)",),
    ]
    assert [call["message"] for _, call in clinic.webhook.calls] == ["3 of 100 images failed (limit 2%)"]


def test_running_night_is_not_closed(clinic: Clinic) -> None:
    run = make_night(clinic.engine, 1, references("a"))
    lease(clinic.engine, run, "a", seconds=60)
    assert clinic.close() == []
    assert clinic.states() == [(False, None, False)]


def test_night_without_images_is_closed_without_an_alert(clinic: Clinic) -> None:
    make_night(clinic.engine, 1, [])
    (night,) = clinic.close()
    assert (night.report, night.verdict, night.findings) == (None, None, ())
    assert not clinic.settings.reports_dir.exists()


def test_alert_that_was_not_accepted_is_sent_again(clinic: Clinic) -> None:
    clinic.night(1, {0: 1}, failed=1)
    with pytest.raises(AlertError):
        clinic.close(alarm_urls=clinic.settings.alarm_urls.__class__(f"json://127.0.0.1:{reserve_port()}/"))
    assert clinic.states() == [(True, None, False)]
    assert clinic.close() == []
    assert clinic.webhook.titles == ["nightly-2026-11-01 needs attention"]
    assert clinic.states() == [(True, None, True)]
    clinic.close()
    assert len(clinic.webhook.calls) == 1


def test_report_that_cannot_be_written_is_a_finding(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    clinic.night(1, {0: 1})
    (night,) = clinic.close(reports_dir=tmp_path / "file")
    assert night.report is None
    assert night.findings == (
        "the report was not written (Not a directory): to retry, run `fundus report nightly-2026-11-01`",
    )
    assert clinic.states() == [(True, None, True)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (None, None),
        ({"written_at": NOON, "due_at": None}, "nightly-2026-11-01/report/index.html"),
        ({"written_at": None, "due_at": 1.0}, "nightly-2026-11-01/report/index.html"),
        ({"written_at": None, "due_at": None}, None),
    ],
    ids=["none scheduled", "written", "pending", "given up"],
)
def test_report_in_the_overlay_store_is_found_and_not_written_again(
    clinic: Clinic, values: dict[str, Any] | None, found: str | None
) -> None:
    clinic.night(1, {0: 1})
    with write_transaction(clinic.engine) as connection:
        connection.execute(reports.delete())
        if values is not None:
            prefix = "nightly-2026-11-01/report/"
            connection.execute(reports.insert().values(run_id=1, prefix=prefix, **values))
    (night,) = clinic.close(reports_dir=None)
    store = clinic.settings.storage_url
    assert night.report == (None if found is None else f"{store}/{found}")
    given_up = ("no worker could write the report: to retry, run `fundus report nightly-2026-11-01`",)
    assert night.findings == (given_up if values and not any(values.values()) else ())
    assert not Path(store.removeprefix("file://")).exists()


def test_nights_cannot_be_closed_twice_at_once(clinic: Clinic) -> None:
    assert acquire_lock(clinic.engine, "morning", "other", 60) is LockResult.ACQUIRED
    with pytest.raises(OverlapError, match="lock 'morning' is held"):
        clinic.close()


def test_command_prints_each_night(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.night(1, {0: 1}, failed=1)
    for name in ("database_url", "reports_dir", "decode_processes"):
        value = getattr(clinic.settings, name)
        monkeypatch.setenv(f"FUNDUS_{name.upper()}", str(getattr(value, "get_secret_value", lambda v=value: v)()))
    done = CliRunner().invoke(app, ["close-nights", "--json"])
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert (document["run"], document["by_status"]["failed"], len(document["findings"])) == ("nightly-2026-11-01", 1, 1)
    assert CliRunner().invoke(app, ["close-nights"]).stdout == "no night to close\n"


def test_too_many_ungradable_images_send_an_alert(clinic: Clinic) -> None:
    run = make_night(clinic.engine, 1, references("a", "b"))
    for name in ("a", "b"):
        fail(clinic.engine, run, name, "blurred", Status.UNGRADABLE)
    seal_run(clinic.engine, run)
    (night,) = clinic.close()
    assert night.findings == ("2 of 2 images are ungradable (limit 15%)",)


def test_night_that_grows_while_it_is_closed_stays_open(
    postgres_url: str, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(database_url=postgres_url, reports=False)
    engine = connect(settings)
    run = make_night(engine, 1, references("a"))
    fail(engine, run, "a", "image_missing")
    seal_run(engine, run)
    interleave(
        postgres_url,
        lambda e: register_batch(e, run, references("b"), position=1, resend_after_s=60),
        lambda _: close_ended_nights(settings),
        stop_after="UPDATE nights",
    )
    with read_transaction(engine) as connection:
        assert connection.execute(select(nights.c.closed_at)).scalar_one() is None
    engine.dispose()
