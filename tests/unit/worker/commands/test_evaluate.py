"""`fundus evaluate` and `fundus compare` on runs of real photographs in a real ledger."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.image
import numpy as np
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.producer.ledger_rows import NOON, change, grade, make_run
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import parse_settings
from worker.core.vocabulary import Eye, Grade
from worker.ledger.database import connect, write_transaction
from worker.ledger.runs import find_run
from worker.ledger.schema import images, models, runs
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"
LEFT, RIGHT = "IDRiD_001", "IDRiD_008"

Fundus = Callable[..., str]


@pytest.fixture
def ledger(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("FUNDUS_STORAGE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("FUNDUS_DECODE_PROCESSES", "1")
    monkeypatch.setenv("COLUMNS", "120")
    engine = connect(parse_settings())
    manifest = read_any_manifest(find_bundle(DEFAULT_BUNDLE))
    with write_transaction(engine) as connection:
        connection.execute(
            models.insert().values(
                model_id=manifest.model_id,
                name=manifest.name,
                document=manifest.model_dump(mode="json"),
                registered_at=NOON,
            )
        )
    for name, grades in {"july": {LEFT: 3, RIGHT: 1}, "august": {LEFT: 3, RIGHT: 3}}.items():
        add_run(engine, name, manifest.model_id, grades, tmp_path / "store")
    return engine


def add_run(engine: Engine, name: str, model_id: str, grades: dict[str, int], store: Path) -> None:
    """Add a run of two eyes of reference grade 3, with a green square as overlay."""
    photographs = [
        ImageReference((SAMPLES / f"{image_id}.jpg").as_uri(), image_id, "p", eye, Grade.SEVERE)
        for image_id, eye in zip(grades, (Eye.LEFT, Eye.RIGHT), strict=True)
    ]
    run = make_run(engine, name, photographs)
    square = np.full((64, 64, 3), (0, 200, 0), np.uint8)
    for image_id, found in grades.items():
        key = f"{name}/{image_id}.png"
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        (store / key).write_bytes(cv2.imencode(".png", square)[1].tobytes())
        grade(engine, run, image_id, found, model_id=model_id, overlay_key=key)
    with write_transaction(engine) as connection:
        connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=model_id))


def fundus(*arguments: str, status: int = 0) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    assert outcome.exit_code == status, outcome.output
    return outcome.output


def test_metrics_are_printed_as_tables_and_as_json(ledger: Engine) -> None:
    shown = fundus("evaluate", "july", "--resamples", "100")
    assert "july: 2 images with a reference grade (patients: 1): 2 graded" in shown
    assert "95% intervals from 100 resamples of patients" in shown
    found = json.loads(fundus("evaluate", "july", "--resamples", "100", "--json"))
    assert found["figures"]["recall_grade_3"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["figures"]["referable_auc"] == {"value": None, "low": None, "high": None}
    assert found["confusion"][3] == [0, 1, 0, 1, 0]
    assert [(group["column"], group["value"], group["images"]) for group in found["groups"]] == [
        ("eye", "left", 1),
        ("eye", "right", 1),
    ]


def test_columns_of_a_file_become_subgroups(ledger: Engine, tmp_path: Path) -> None:
    cameras = tmp_path / "cameras.csv"
    cameras.write_text(f"image_id,camera\n{LEFT},kowa\nsomebody,topcon\n")
    found = json.loads(fundus("evaluate", "july", "--resamples", "100", "--groups", str(cameras), "--json"))
    groups = {group["value"]: group["images"] for group in found["groups"] if group["column"] == "camera"}
    assert groups == {"": 1, "kowa": 1}
    cameras.write_text("id,camera\n")
    assert "has no column image_id" in fundus("evaluate", "july", "--groups", str(cameras), status=2)
    assert "cannot read" in fundus("evaluate", "july", "--groups", str(tmp_path / "none.csv"), status=2)


def test_folder_contains_document_plots_and_galleries(ledger: Engine, tmp_path: Path) -> None:
    fundus("evaluate", "july", "--resamples", "100", "--out", str(tmp_path / "out"))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    plots = ("confusion", "reliability", "roc")
    assert names == sorted(["evaluation.json", "gallery-3.png", *(f"{p}{t}.png" for p in plots for t in ("", "-dark"))])
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["run"] == "july"
    gallery = matplotlib.image.imread(tmp_path / "out" / "gallery-3.png")[..., :3]
    assert gallery.shape[1] == 1600
    rows, right = gallery.shape[0] // 2, gallery[:, 2 * gallery.shape[1] // 3 :]
    green = (np.abs(right - np.array([0, 200, 0]) / 255) < 0.01).all(axis=2)
    assert green[:rows].any()
    assert green[rows:].any()


def test_costliest_images_are_reported_and_shown(ledger: Engine, tmp_path: Path) -> None:
    with write_transaction(ledger) as connection:
        connection.execute(images.update().where(images.c.image_id == RIGHT).values(reference_grade=0))
    change(ledger, find_run(ledger, "july"), RIGHT, p_ge2=0.95)
    shown = fundus("evaluate", "july", "--resamples", "100", "--out", str(tmp_path / "out"))
    assert "referable auc: the 2 costliest images account for 1.000 of 1 - AUC = 1.000." in shown
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert document["costliest"]["referable"][1] == {
        "image_id": RIGHT, "reference": 0, "grade": 1, "chance": 0.95, "loss": 0.5,
    }  # fmt: skip
    gallery = matplotlib.image.imread(tmp_path / "out" / "costliest-referable.png")[..., :3]
    green = (np.abs(gallery - np.array([0, 200, 0]) / 255) < 0.01).all(axis=2)
    assert green[: len(green) // 2].any()
    assert green[len(green) // 2 :].any()


def test_gallery_skips_missing_overlays(ledger: Engine, tmp_path: Path) -> None:
    (tmp_path / "store" / "july" / f"{RIGHT}.png").unlink()
    change(ledger, find_run(ledger, "july"), LEFT, overlay_key=None, overlay_retired_at=NOON)
    shown = fundus("evaluate", "july", "--resamples", "100", "--out", str(tmp_path / "out"))
    assert f"{RIGHT} is not in the gallery: its overlay is missing" in shown
    assert f"{LEFT} is not in the gallery: its overlay has expired" in shown
    assert not (tmp_path / "out" / "gallery-3.png").exists()
    fundus("evaluate", "august", "--resamples", "100", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "gallery-3.png").exists()


def test_runs_are_compared_and_changes_are_written(ledger: Engine, tmp_path: Path) -> None:
    shown = fundus("compare", "july", "august", "--out", str(tmp_path / "changes.csv"))
    assert "july and august: 2 images in common, 1 the same (50.0%)" in shown
    assert "0 correct only in july, 1 only in august (McNemar, exact: p = 1)" in shown
    with (tmp_path / "changes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "image_id": RIGHT,
            "reference": "3",
            "first": "graded",
            "second": "graded",
            "first_grade": "1",
            "second_grade": "3",
        }
    ]
    assert json.loads(fundus("compare", "july", "august", "--json"))["same"] == 1


def test_folder_that_cannot_be_written_is_named(ledger: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in fundus("evaluate", "july", "--resamples", "100", "--out", str(tmp_path / "file"), status=2)
    assert "cannot write" in fundus("compare", "july", "august", "--out", str(tmp_path / "none" / "a.csv"), status=2)
