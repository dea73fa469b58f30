"""`fundus accept` on labelled runs in a real ledger, and what it changes for runs, exports, reports and nights."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from producer.cli import app
from producer.exporter.ledger_metrics import LedgerCollector
from producer.runs.lifecycle import RunRequest, open_run, seal_run
from producer.runs.register import register_batch
from tests.unit.producer.ledger_rows import NOON, change, fail, grade
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import parse_settings, read_settings
from worker.core.vocabulary import Eye, Grade, Status
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import models, runs, site_acceptances
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

MANIFEST = read_any_manifest(find_bundle(DEFAULT_BUNDLE))
WARNING = "model not validated at this site: clinic-a"

Fundus = Callable[..., str]


@pytest.fixture(params=["sqlite_url", "postgres_url"], ids=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", request.getfixturevalue(request.param))
    monkeypatch.setenv("FUNDUS_STORAGE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("COLUMNS", "200")
    engine = connect(parse_settings())
    document = MANIFEST.model_dump(mode="json")
    with write_transaction(engine) as connection:
        connection.execute(
            models.insert().values(
                model_id=MANIFEST.model_id, name=MANIFEST.name, document=document, registered_at=NOON
            )
        )
    return engine


def add_run(
    engine: Engine, name: str, outcomes: list[tuple[int, int | None]], site: str | None = "clinic-a", eyes: int = 1
) -> Run:
    """Add a finished run: an image for each reference grade and grade (None: ungradable), `eyes` for each patient."""
    names = [f"{name}-{number:03}" for number in range(len(outcomes))]
    photographs = [
        ImageReference(f"file:///{one}.jpg", one, f"{name}-p{number // eyes}", Eye.UNKNOWN, Grade(reference))
        for number, (one, (reference, _)) in enumerate(zip(names, outcomes, strict=True))
    ]
    run, position = open_run(engine, RunRequest(name, "test", site=site), default_chunk_size=32)
    register_batch(engine, run, photographs, position=position, resend_after_s=60)
    for one, (_, found) in zip(names, outcomes, strict=True):
        if found is None:
            fail(engine, run, one, "blurred", Status.UNGRADABLE)
            change(engine, run, one, model_id=MANIFEST.model_id)
        else:
            grade(engine, run, one, found, model_id=MANIFEST.model_id)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=MANIFEST.model_id))
    seal_run(engine, run)
    return find_run(engine, name)


def fundus(*arguments: str, status: int = 0) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    assert outcome.exit_code == status, outcome.output
    return outcome.output


def accept(run: str, *options: str, status: int = 0) -> str:
    return fundus("accept", run, "--site", "clinic-a", *options, status=status)


def outcomes(found: int, missed: int, passed: int, alarmed: int) -> list[tuple[int, int | None]]:
    return [(2, 3)] * found + [(4, 1)] * missed + [(1, 0)] * passed + [(0, 2)] * alarmed


def test_model_that_reaches_both_lower_ends_is_accepted(ledger: Engine) -> None:
    run = add_run(ledger, "good", outcomes(58, 2, 90, 10))
    shown = accept("good")
    assert f"clinic-a: {MANIFEST.name} ({MANIFEST.model_id}) accepted on run good" in shown
    # Clopper and Pearson: 58 of 60 and 90 of 100.
    assert "0.967 (0.885 to 0.996)" in shown
    assert "0.900 (0.824 to 0.951)" in shown
    with read_transaction(ledger) as connection:
        (row,) = connection.execute(select(site_acceptances)).all()
    assert (row.site, row.model_id, row.run_id, row.images, row.accepted) == (
        "clinic-a",
        MANIFEST.model_id,
        run.run_id,
        160,
        True,
    )
    assert row.figures["sensitivity"]["correct"] == 58
    assert row.figures["sensitivity"]["required"] == 0.85
    assert "@" in row.decided_by


def test_model_that_misses_a_lower_end_is_refused(ledger: Engine) -> None:
    add_run(ledger, "bad", outcomes(54, 6, 90, 10))
    shown = accept("bad", status=1)
    assert "refused on run bad" in shown
    # A sensitivity of 0.9 on 60 eyes may be one of 0.795.
    assert "0.900 (0.795 to 0.962)" in shown
    found = json.loads(accept("bad", "--sensitivity", "0.75", "--json"))
    assert (found["accepted"], found["images"], found["left_out"]) == (True, 160, 0)
    assert "not met" not in accept("bad", "--sensitivity", "0.75")


def test_two_eyes_of_a_patient_do_not_count_twice(ledger: Engine) -> None:
    add_run(ledger, "pairs", outcomes(58, 2, 90, 10), eyes=2)
    found = json.loads(accept("pairs", "--json", status=1))
    assert found["figures"]["sensitivity"]["patients"] == 30
    assert found["figures"]["sensitivity"]["low"] < 0.85


def test_ungradable_photograph_counts_as_referred(ledger: Engine) -> None:
    add_run(ledger, "blurred", [*outcomes(50, 2, 80, 0), *[(2, None)] * 8, *[(0, None)] * 20])
    found = json.loads(accept("blurred", "--json", status=1))
    counts = {name: (one["correct"], one["images"]) for name, one in found["figures"].items()}
    assert counts == {"sensitivity": (58, 60), "specificity": (80, 100)}
    assert found["ungradable"] == 28


def test_too_few_photographs_are_refused_by_number(ledger: Engine) -> None:
    add_run(ledger, "few", outcomes(40, 0, 59, 0))
    shown = accept("few", status=2)
    assert "run few has 99 photographs with an outcome and a reference grade, 100 are needed" in shown
    assert "fix: enqueue 1 or more into it with --labels" in shown
    with read_transaction(ledger) as connection:
        assert connection.execute(select(site_acceptances)).all() == []


def test_run_that_allows_no_verdict_is_reported(ledger: Engine) -> None:
    add_run(ledger, "healthy", outcomes(0, 0, 100, 0))
    assert "run healthy has 0 referable photographs of 100" in accept("healthy", status=2)
    add_run(ledger, "elsewhere", outcomes(60, 0, 60, 0), site="clinic-b")
    assert "run elsewhere is of site clinic-b, not of clinic-a" in accept("elsewhere", status=2)
    add_run(ledger, "nowhere", outcomes(60, 0, 60, 0), site=None)
    assert "run nowhere is of no site, not of clinic-a; fix: enqueue it again with --site clinic-a" in accept(
        "nowhere", status=2
    )
    open_run(ledger, RunRequest("healthy", "test"), default_chunk_size=32)
    assert "run healthy is open; fix: wait until it is finished" in accept("healthy", status=2)
    assert "--sensitivity 1 is not between 0 and 1" in accept("healthy", "--sensitivity", "1", status=2)


def test_status_export_and_metrics_name_a_run_whose_model_is_not_accepted(ledger: Engine, tmp_path: Path) -> None:
    add_run(ledger, "good", outcomes(58, 2, 90, 10))
    add_run(ledger, "silent", outcomes(1, 0, 1, 0), site=None)

    def export(run: str) -> set[tuple[str, str]]:
        fundus("export", run, "--out", str(tmp_path / "out.csv"))
        with (tmp_path / "out.csv").open(newline="") as file:
            return {(row["site"], row["not_validated"]) for row in csv.DictReader(file)}

    def measure() -> float | None:
        registry = CollectorRegistry()
        registry.register(LedgerCollector(ledger, lambda _queue: 0, print))
        labels = {"site": "clinic-a", "model_id": MANIFEST.model_id}
        return registry.get_sample_value("fundus_runs_not_validated", labels)

    assert WARNING in fundus("status", "good")
    assert export("good") == {("clinic-a", WARNING)}
    assert measure() == 1
    assert "not validated" not in fundus("status", "silent")
    assert export("silent") == {("", "")}

    accept("good")
    assert "not validated" not in fundus("status", "good")
    assert json.loads(fundus("status", "good", "--json"))["not_validated"] is None
    assert export("good") == {("clinic-a", "")}
    assert measure() is None


def test_report_names_a_model_that_is_not_accepted(ledger: Engine, tmp_path: Path) -> None:
    add_run(ledger, "good", outcomes(58, 2, 90, 10))
    add_run(ledger, "day", outcomes(1, 0, 0, 0))

    def write() -> tuple[bool, object]:
        out = tmp_path / "report"
        fundus("report", "day", "--out", str(out))
        summary = json.loads((out / "summary.json").read_text())
        assert summary["site"] == "clinic-a"
        return WARNING in (out / "index.html").read_text(), summary["not_validated"]

    assert write() == (True, WARNING)
    accept("good")
    assert write() == (False, None)


def test_night_is_refused_without_an_accepted_model(
    ledger: Engine, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNDUS_BROKER_URL", broker_url)
    (inbox := tmp_path / "inbox").mkdir()
    (inbox / "a.jpg").write_bytes(b"photograph")
    night = ("nightly", str(inbox), "--site", "clinic-a")
    shown = fundus(*night, "--require-accepted", status=2)
    assert "error[site_not_accepted]: model not validated at this site: clinic-a has accepted no model" in shown
    with read_transaction(ledger) as connection:
        assert connection.execute(select(runs)).all() == []

    add_run(ledger, "good", outcomes(58, 2, 90, 10))
    accept("good")
    monkeypatch.setenv("FUNDUS_NIGHTLY_REQUIRE_ACCEPTED", "true")
    read_settings.cache_clear()
    found = json.loads(fundus(*night, "--json"))
    run = find_run(ledger, found["run"])
    assert (found["new"], run.site, run.model_id) == (1, "clinic-a", MANIFEST.model_id)
    accept("good", "--sensitivity", "0.99", status=1)
    assert "site_not_accepted" in fundus(*night, status=2)
    fundus(*night, "--no-require-accepted")
