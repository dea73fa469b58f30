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
    """A run with so many images of each grade; None is ungradable."""
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


def of(drift: Drift, name: str) -> DriftFeature:
    (feature,) = [feature for feature in drift.features if feature.name == name]
    return feature


def test_index_is_the_sum_over_bins_that_are_used(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 30, 2: 10}, {0: 20, 2: 20})
    expected = (0.75 - 0.5) * log(0.75 / 0.5) + (0.25 - 0.5) * log(0.25 / 0.5)
    grades = of(drift, "grade")
    assert grades.index == pytest.approx(expected)
    assert [(entry.name, entry.baseline, entry.share) for entry in grades.bins][:3] == [
        ("0", 0.5, 0.75), ("1", 0, 0), ("2", 0.5, 0.25),
    ]  # fmt: skip
    # 0.2747 / (1/40 + 1/40) = 5.49: chi-squared with one degree of freedom exceeds it in 1.9% of cases.
    assert grades.chance == pytest.approx(0.0191, abs=0.0002)
    assert grades.verdict is DriftLevel.STABLE


def test_large_index_of_enough_images_is_drift(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 90, 2: 30}, {0: 60, 2: 60})
    assert of(drift, "grade").verdict is DriftLevel.DRIFT
    assert of(drift, "outcome").verdict is DriftLevel.STABLE
    assert drift.verdict is DriftLevel.DRIFT


def test_moderate_index_is_to_be_watched(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 105, None: 15}, {0: 117, None: 3})
    assert of(drift, "outcome").verdict is DriftLevel.WATCH
    assert drift.verdict is DriftLevel.WATCH


def test_same_population_is_stable(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 20, 3: 4, None: 1}, {0: 20, 3: 4, None: 1})
    assert {feature.index for feature in drift.features} == {0.0}
    assert drift.verdict is DriftLevel.STABLE


def test_bin_that_one_run_leaves_empty_counts_half(sqlite_engine: Engine) -> None:
    drift = measured(sqlite_engine, {0: 8, 4: 2}, {0: 10})
    expected = (0.8 - 1) * log(0.8 / 1) + (0.2 - 0.05) * log(0.2 / 0.05)
    assert of(drift, "grade").index == pytest.approx(expected)


def test_run_without_a_graded_image_is_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(RunError, match="run then has no graded image yet"):
        measured(sqlite_engine, {0: 1}, {None: 1})


def test_command_tells_what_moved_and_can_fail(
    sqlite_engine: Engine, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(sqlite_engine, {0: 90, 2: 30}, {0: 60, 2: 60})
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(app, ["drift", "now", "--against", "then"])
    assert shown.exit_code == 0
    assert "now (120 images) against then (120): drift" in shown.output
    assert "75.0%" in shown.output
    told = CliRunner().invoke(app, ["drift", "now", "--against", "then", "--check", "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)["verdict"] == "drift"
