import json
from math import log

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.producer.ledger_rows import MODEL, add_model, fail, grade, make_run, references
from worker.core.errors import RunError
from worker.core.settings import parse_settings
from worker.core.vocabulary import Status
from worker.evaluation.drift.psi import Drift, DriftFeature, DriftLevel, measure_drift
from worker.evaluation.labelled import find_graded_run
from worker.ledger.database import connect, write_transaction
from worker.ledger.schema import runs


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Engine:
    return connect(parse_settings(database_url=sqlite_url))


def add(engine: Engine, name: str, grades: dict[int | None, int]) -> None:
    """Add a run with a number of images of each grade; None is ungradable."""
    wanted = [(f"{name}-{found}-{number}", found) for found, count in grades.items() for number in range(count)]
    run = make_run(engine, name, references(*(image_id for image_id, _ in wanted)))
    for image_id, found in wanted:
        if found is None:
            fail(engine, run, image_id, "blurred", Status.UNGRADABLE)
        else:
            grade(engine, run, image_id, found)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().values(model_id=MODEL))


def measured(engine: Engine, now: dict[int | None, int], then: dict[int | None, int]) -> Drift:
    add_model(engine)
    add(engine, "now", now)
    add(engine, "then", then)
    return measure_drift(engine, find_graded_run(engine, "now"), find_graded_run(engine, "then"))


def feature_of(drift: Drift, name: str) -> DriftFeature:
    (feature,) = [feature for feature in drift.features if feature.name == name]
    return feature


def test_psi_is_the_sum_over_used_bins(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 30, 2: 10}, {0: 20, 2: 20})
    expected = (0.75 - 0.5) * log(0.75 / 0.5) + (0.25 - 0.5) * log(0.25 / 0.5)
    grades = feature_of(drift, "grade")
    assert grades.psi == pytest.approx(expected)
    assert [(entry.name, entry.baseline, entry.share) for entry in grades.bins][:3] == [
        ("0", 0.5, 0.75), ("1", 0, 0), ("2", 0.5, 0.25),
    ]  # fmt: skip
    # 0.2747 / (1/40 + 1/40) = 5.49: chi-squared with one degree of freedom exceeds it in 1.9% of cases.
    assert grades.p_value == pytest.approx(0.0191, abs=0.0002)
    assert grades.level is DriftLevel.STABLE


def test_large_psi_of_enough_images_is_drift(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 90, 2: 30}, {0: 60, 2: 60})
    assert feature_of(drift, "grade").level is DriftLevel.DRIFT
    assert feature_of(drift, "outcome").level is DriftLevel.STABLE
    assert drift.level is DriftLevel.DRIFT


def test_moderate_psi_is_watch(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 105, None: 15}, {0: 117, None: 3})
    assert feature_of(drift, "outcome").level is DriftLevel.WATCH
    assert drift.level is DriftLevel.WATCH


def test_same_population_is_stable(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 20, 3: 4, None: 1}, {0: 20, 3: 4, None: 1})
    assert {feature.psi for feature in drift.features} == {0.0}
    assert drift.level is DriftLevel.STABLE


def test_bin_empty_in_one_run_counts_half(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 8, 4: 2}, {0: 10})
    expected = (0.8 - 1) * log(0.8 / 1) + (0.2 - 0.05) * log(0.2 / 0.05)
    assert feature_of(drift, "grade").psi == pytest.approx(expected)


def test_run_without_a_graded_image_is_rejected(sqlite_engine: Engine) -> None:
    with pytest.raises(RunError, match="run then has no graded image yet"):
        measured(sqlite_engine, {0: 1}, {None: 1})


def test_command_shows_changed_bins_and_exits_with_1_on_drift(
    sqlite_engine: Engine, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(sqlite_engine, {0: 90, 2: 30}, {0: 60, 2: 60})
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(app, ["drift", "now", "--against", "then"])
    assert shown.exit_code == 0
    assert "now (120 images) against then (120): drift" in shown.output
    assert "75.0%" in shown.output
    checked = CliRunner().invoke(app, ["drift", "now", "--against", "then", "--check", "--json"])
    assert checked.exit_code == 1
    assert json.loads(checked.stdout)["verdict"] == "drift"
