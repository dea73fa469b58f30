"""`fundus model calibrate` on a run in a real ledger."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.producer.ledger_rows import NOON, grade, make_run
from tests.unit.worker.model.networks import make_small_bundle
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import parse_settings
from worker.core.vocabulary import Eye, Grade
from worker.ledger.database import connect, write_transaction
from worker.ledger.schema import OUTPUTS, models, runs
from worker.model.bundle.bundle import find_bundle, load_bundle, read_manifest
from worker.model.bundle.writer import write_bundle

IMAGES = 120


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network whose thresholds are 0.5."""
    small = make_small_bundle()
    folder = tmp_path_factory.mktemp("model") / "bundle"
    write_bundle(folder, small.manifest, small.weights)
    return str(folder)


@pytest.fixture
def ledger(sqlite_url: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A run of 120 eyes graded by an overconfident model: its logits are twice those the grades were drawn from."""
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("FUNDUS_MODEL", bundle)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    engine = connect(parse_settings())
    manifest = read_manifest(find_bundle(bundle))
    row = {"model_id": manifest.model_id, "name": manifest.name, "registered_at": NOON}
    with write_transaction(engine) as connection:
        connection.execute(models.insert().values(**row, document=manifest.model_dump(mode="json")))
    random = np.random.default_rng(1)
    logits = random.normal(0, 2.5, IMAGES)[:, None] - np.array([-9.0, -0.5, 0.5, 2.5, 3.5])
    reference = (random.random(IMAGES)[:, None] < expit(logits[:, 1:])).sum(axis=1)
    names = [f"i{number:03}" for number in range(IMAGES)]
    photographs = [
        ImageReference(f"file:///{name}.jpg", name, None, Eye.UNKNOWN, Grade(given))
        for name, given in zip(names, reference.tolist(), strict=True)
    ]
    run = make_run(engine, "july", photographs)
    for name, chances in zip(names, expit(2 * logits), strict=True):
        outputs = dict(zip(OUTPUTS, chances.tolist(), strict=True))
        grade(engine, run, name, int((chances > 0.5).sum()) - 1, model_id=manifest.model_id, **outputs)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=manifest.model_id))
    return engine


def fundus(*arguments: str, status: int = 0) -> str:
    outcome = CliRunner().invoke(app, ["model", "calibrate", *arguments])
    assert outcome.exit_code == status, outcome.output
    return outcome.output


def test_new_bundle_has_the_weights_and_another_id(ledger: Engine, bundle: str) -> None:
    found = json.loads(fundus("july", "--sensitivity", "0.9", "--out", "new", "--resamples", "100", "--json"))
    old, new = load_bundle(bundle), load_bundle("./new")
    assert (new.name, new.model_id) == ("new", found["model_id"])
    assert new.model_id != old.model_id
    assert new.manifest.weights_sha256 == old.manifest.weights_sha256
    assert new.manifest.temperature == found["temperature"] == pytest.approx(2, rel=0.3)
    assert list(new.thresholds) == found["thresholds"]
    assert new.thresholds[4] == 0.5
    assert "sensitivity 0.9 for grade 2 or worse, chosen on the 120 graded images of run july" in new.manifest.notes
    assert found["after"]["referable_sensitivity"]["value"] >= 0.9 > found["before"]["referable_sensitivity"]["value"]
    assert found["cross_entropy"]["after"] < found["cross_entropy"]["before"]


def test_site_is_part_of_the_threshold_rule(ledger: Engine) -> None:
    options = ("--sensitivity", "0.9", "--resamples", "100")
    shown = fundus("july", *options, "--site", "clinic-a", "--out", "new", status=2)
    assert "run july is of no site, not of clinic-a" in shown
    with write_transaction(ledger) as connection:
        connection.execute(runs.update().values(site="clinic-a"))
    fundus("july", *options, "--site", "clinic-a", "--out", "new")
    rule = "sensitivity 0.9 for grade 2 or worse, chosen on the 120 graded images of run july at site clinic-a"
    assert load_bundle("./new").manifest.threshold_rule == rule


def test_proliferative_cut_changes_only_its_threshold(ledger: Engine) -> None:
    wanted = ("--sensitivity", "0.9", "--cut", "proliferative")
    found = json.loads(fundus("july", *wanted, "--out", "new", "--resamples", "100", "--json"))
    assert found["thresholds"][:4] == [0.5] * 4
    assert found["thresholds"][4] < 0.5
    assert found["after"]["recall_grade_4"]["value"] >= 0.9 > found["before"]["recall_grade_4"]["value"]


def test_metrics_before_and_after_are_printed(ledger: Engine) -> None:
    shown = fundus("july", "--specificity", "0.95", "--out", "new", "--resamples", "100")
    expected = ("before", "after", "held out (5 folds)", "referable calibration error", "recall grade 4", "temperature")
    for words in (*expected, "new: new ("):
        assert words in shown


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give either --sensitivity or --specificity"),
        (["--sensitivity=0.9", "--specificity=0.9"], "give either --sensitivity or --specificity"),
        (["--sensitivity=1"], "--sensitivity 1 is not between 0 and 1"),
        (["--sensitivity=0.9", "--name=No Name"], "model bundle: name: String should match pattern"),
        (["--sensitivity=0.9", "--model=./nothing"], "no model bundle './nothing'"),
    ],
)
def test_invalid_request_is_reported_in_one_line(ledger: Engine, options: list[str], sentence: str) -> None:
    shown = fundus("july", "--out", "new", "--resamples", "100", *options, status=1 if "bundle '" in sentence else 2)
    assert sentence in shown
    assert not Path("new").exists()


def test_existing_folder_is_not_changed(ledger: Engine) -> None:
    Path("new").mkdir()
    shown = fundus("july", "--sensitivity", "0.9", "--out", "new", "--resamples", "100", status=2)
    assert "new exists; choose a new folder" in shown
    assert list(Path("new").iterdir()) == []


def test_bundle_of_another_run_is_rejected(ledger: Engine) -> None:
    fundus("july", "--sensitivity", "0.9", "--out", "new", "--resamples", "100")
    shown = fundus("july", "--sensitivity", "0.9", "--out", "newer", "--model", "./new", status=2)
    assert "run july was graded by random" in shown
    assert "give --model" in shown
