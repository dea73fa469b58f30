"""A report in a folder: its files and numbers, and that writing it again gives the same files."""

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from sqlalchemy import Engine

from tests.unit.producer.ledger_rows import NOON, fail, grade, make_run, references
from tests.unit.worker.console.accounts_and_runs import add_session_user
from tests.unit.worker.ledger.ledger_rows import change
from worker.console.decisions import ReviewForm, record_decision
from worker.console.sessions import SessionUser
from worker.core.clinical_labels import SALIENCY
from worker.core.errors import RunError
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings
from worker.core.vocabulary import Eye, Finding, Grade, Status
from worker.ledger.configurations import InferenceConfiguration, register_configuration
from worker.ledger.database import connect, write_transaction
from worker.ledger.runs import Run
from worker.ledger.schema import models, runs
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle, read_manifest
from worker.model.bundle.ensemble import EnsembleManifest, Member, View, read_any_manifest
from worker.report import writer as report_writer
from worker.report.destination import folder_destination
from worker.report.patients import NEXT_STEPS
from worker.report.writer import ReportOptions, ReportStopped, write_report

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"
MANIFEST = read_any_manifest(find_bundle(DEFAULT_BUNDLE))


@dataclass
class Ledger:
    engine: Engine
    settings: Settings

    def fill(self, name: str, photographs: list[ImageReference], grades: dict[str, int]) -> Run:
        run = make_run(self.engine, name, photographs)
        saliency = np.eye(7, dtype=np.float16).tobytes()
        for image_id, found in grades.items():
            grade(self.engine, run, image_id, found, model_id=MANIFEST.model_id, saliency=saliency)
        with write_transaction(self.engine) as connection:
            connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=MANIFEST.model_id))
        return run


@pytest.fixture
def ledger(sqlite_url: str, make_settings: Callable[..., Settings]) -> Ledger:
    settings = make_settings(database_url=sqlite_url, decode_processes=1)
    engine = connect(settings)
    with write_transaction(engine) as connection:
        document = MANIFEST.model_dump(mode="json")
        connection.execute(
            models.insert().values(
                model_id=MANIFEST.model_id, name=MANIFEST.name, document=document, registered_at=NOON
            )
        )
    return Ledger(engine, settings)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "out"


def report(
    ledger: Ledger, run: str, out: Path, should_continue: Callable[[], bool] = lambda: True, **choices: object
) -> list[str]:
    """Write a report and return its warnings."""
    warnings: list[str] = []
    defaults: dict[str, object] = {"next_steps": NEXT_STEPS}
    index = write_report(
        ledger.engine,
        ledger.settings,
        run,
        folder_destination(out),
        ReportOptions(**defaults | choices),  # type: ignore[arg-type]
        on_warning=warnings.append,
        should_continue=should_continue,
    )
    assert index == (out / "index.html").as_uri()
    files = json.loads((out / "summary.json").read_text())["files"]
    assert sorted(files) == sorted(path.name for path in out.iterdir())
    return warnings


def held(out: Path, name: str) -> list[dict[str, Any]]:
    """Return a part that is embedded in the page."""
    text = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', (out / "index.html").read_text())
    assert text is not None
    return list(json.loads(text[1]))


def pixels(picture: str) -> np.ndarray[Any, Any]:
    return cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_UNCHANGED)


def test_report_has_patients_thumbnails_and_counts(ledger: Ledger, out: Path) -> None:
    right = ImageReference((SAMPLES / "IDRiD_008.jpg").as_uri(), "r", "Patient 7", Eye.RIGHT, Grade(4))
    left = ImageReference((SAMPLES / "IDRiD_138.jpg").as_uri(), "l", "Patient 7", Eye.LEFT)
    run = ledger.fill("july", [right, left, *references("gone", "dark")], {"r": 4, "l": 0, "gone": 2})
    fail(ledger.engine, run, "dark", "too_dark", Status.UNGRADABLE)
    ledger.fill("june", references("x"), {"x": 1})

    warnings = report(ledger, "july", out, baseline="june")

    assert [warning.partition(":")[0] for warning in warnings] == [
        "no thumbnail for image gone",
        "no thumbnail for image dark",
    ]
    index = (out / "index.html").read_text()
    for words in ("Patient 7", NEXT_STEPS["4"], "too_dark", "Underexposed: retake the photograph", "100.0 %"):
        assert words in index
    assert json.loads((out / "summary.json").read_text())["by_grade"] == {"0": 1, "1": 0, "2": 1, "3": 0, "4": 1}
    images = held(out, "images-1")
    assert [(image["id"], image["grade"], image["pictures"] is not None) for image in images] == [
        ("r", 4, True), ("gone", 2, False), ("l", 0, True), ("dark", None, False),
    ]  # fmt: skip
    referable, preview = images[0]["pictures"], images[2]["pictures"]
    photograph, tint = pixels(referable["photograph"]), pixels(referable["tint"])
    # The field of the sample is 615 pixels wide: the photograph is not enlarged to 1024.
    assert (photograph.shape, tint.shape, referable["large"]) == ((615, 615, 3), (48, 48, 4), True)
    assert 0 < tint[24, 24, 3] < 128  # the vessels below stay visible
    assert tint[0, 0, 3] == 0
    assert referable["lines"].startswith("M")
    assert (pixels(preview["photograph"]).shape, preview["large"]) == ((384, 384, 3), False)
    (patient, *_) = held(out, "patients-1")
    assert (patient["id"], patient["grade"], [eye["eye"] for eye in patient["eyes"]]) == (
        "Patient 7",
        4,
        ["right", "left"],
    )


def test_report_names_what_computed_the_grades(ledger: Ledger, out: Path) -> None:
    run = ledger.fill("night", references("a", "b", "c"), dict.fromkeys("abc", 0))
    exact = InferenceConfiguration(
        MANIFEST.model_id,
        "0.1.0",
        "openvino",
        "float32",
        "Some <CPU>",
        {"openvino": "2026.4"},
        [{"input_size_px": 320}],
    )
    keys = [register_configuration(ledger.engine, one) for one in (exact, replace(exact, precision="int8"))]
    for image_id, key in zip("ab", keys, strict=True):
        change(ledger.engine, image_id, configuration_id=key)
    report(ledger, run.name, out, pictures=False)
    page = (out / "index.html").read_text()
    assert "fundus 0.1.0, openvino, float32, Some &lt;CPU&gt;" in page
    assert "computed in several precisions" in page
    summary = json.loads((out / "summary.json").read_text())
    found = [(one["configuration_id"], one["precision"], one["images"]) for one in summary["configurations"]]
    assert sorted(found) == sorted(zip(keys, ("float32", "int8"), (1, 1), strict=True))
    assert summary["configuration_not_recorded"] == 1


def test_page_describes_what_the_saliency_explains(ledger: Ledger, out: Path) -> None:
    single = read_manifest(find_bundle("densenet121-aptos-224")).model_copy(update={"explained_outputs": (1, 2)})
    ensemble = EnsembleManifest(
        name="twice", members=(Member(manifest=single, views=(View.AS_IS, View.MIRRORED)),), explained_outputs=(2, 2)
    )
    for manifest in (single, ensemble):
        document = manifest.model_dump(mode="json")
        with write_transaction(ledger.engine) as connection:
            connection.execute(
                models.insert().values(
                    model_id=manifest.model_id, name=manifest.name, document=document, registered_at=NOON
                )
            )
    for run, model_id in (("july", single.model_id), ("june", ensemble.model_id)):
        ledger.fill(run, references(run), {run: 1})
        with write_transaction(ledger.engine) as connection:
            connection.execute(runs.update().where(runs.c.name == run).values(model_id=model_id))
    report(ledger, "july", out)
    assert (
        "Areas that most influenced this result: evidence for referable DR, or for any DR below grade 2."
        in (out / "index.html").read_text()
    )
    assert "; layer <code>relu</code></dd>" in (out / "index.html").read_text()
    report(ledger, "june", out)
    page = (out / "index.html").read_text()
    assert f"{SALIENCY}: evidence for grade 2 or worse." in page
    # The members of an ensemble may have different target layers.
    assert "<dd>Grad-CAM, evidence for grade 2 or worse</dd>" in page


def test_final_grades_name_their_readers_and_unfinished_reviews_do_not(ledger: Ledger, out: Path) -> None:
    uri = (SAMPLES / "IDRiD_138.jpg").as_uri()
    eyes = [ImageReference(uri, name, f"P{name}", Eye.RIGHT) for name in ("over", "missed", "begun", "unread")]
    ledger.fill("july", eyes, {"over": 4, "missed": 0, "begun": 3, "unread": 1})
    anna, ben = (add_session_user(ledger.engine, name) for name in ("anna", "ben"))

    def review(user: SessionUser, image_id: str, given: int, shown: int, readers: int) -> None:
        findings = (Finding.LASER_SCARS,) if user is ben else ()
        form = ReviewForm(given, "<b>why</b>", f"graded:{shown}:{MANIFEST.model_id}", 0, findings=findings)
        record_decision(ledger.engine, "july", image_id, user, form, default_readers=readers)

    for image_id, given, shown in (("over", 0, 4), ("missed", 2, 0)):
        review(anna, image_id, given, shown, readers=2)
        review(ben, image_id, given, shown, readers=2)
    review(anna, "begun", 3, 3, readers=2)

    report(ledger, "july", out)

    summary = json.loads((out / "summary.json").read_text())
    assert summary["by_grade"] == {"0": 1, "1": 1, "2": 1, "3": 0, "4": 0}
    assert summary["by_model_grade"] == {"0": 1, "1": 1, "2": 0, "3": 1, "4": 1}
    assert (summary["readings"], summary["changed_by_readers"]) == ({"half_read": 1, "read": 2}, 2)
    assert (summary["referable"], summary["patients_referable"], summary["patients_being_read"]) == (2, 2, 1)
    images = {image["id"]: image for image in held(out, "images-1")}
    assert [(name, image["grade"], image["byModel"]) for name, image in images.items()] == [
        ("begun", None, False), ("missed", 2, False), ("unread", 1, True), ("over", 0, False),
    ]  # fmt: skip
    assert images["begun"]["label"] == "Awaiting reading"
    decided = images["over"]["reading"]
    assert (decided["state"], decided["model"]) == ("read", 4)
    assert [(one["reader"], one["kind"], one["grade"], one["findings"]) for one in decided["decisions"]] == [
        ("anna", "reading", 0, []), ("ben", "reading", 0, ["Laser scars"]),
    ]  # fmt: skip
    # The first decision would bias the second reader, and reasons are free text.
    assert images["begun"]["reading"] == {"state": "half_read", "model": 3, "decisions": []}
    assert "why" not in (out / "index.html").read_text()
    assert images["unread"]["reading"] is None
    assert all(image["pictures"] is not None for image in images.values())
    with (out / "results.csv").open(newline="") as file:
        final = {row["image_id"]: (row["grade"], row["final_grade"], row["decided_by"]) for row in csv.DictReader(file)}
    assert final == {
        "over": ("4", "0", "anna, ben"),
        "missed": ("0", "2", "anna, ben"),
        "begun": ("3", "", ""),
        "unread": ("1", "1", ""),
    }


def test_ungradable_photograph_has_no_overlay(ledger: Ledger, out: Path) -> None:
    run = ledger.fill("july", [ImageReference((SAMPLES / "black-frame.jpg").as_uri(), "dark"), *references("gone")], {})
    for name in ("dark", "gone"):
        fail(ledger.engine, run, name, "too_dark", Status.UNGRADABLE)
    report(ledger, "july", out)
    dark, gone = held(out, "images-1")
    pictures = dark["pictures"]
    assert (pixels(pictures["photograph"]).shape, pictures["tint"], pictures["lines"]) == ((384, 384, 3), None, "")
    assert (dark["missing"], gone["pictures"]) == (None, None)
    assert gone["missing"] == "no file at /gone.jpg"


def test_replaced_photograph_is_not_shown_with_the_grade_of_another_one(ledger: Ledger, out: Path) -> None:
    photograph = out.with_name("eye.jpg")
    photograph.write_bytes((SAMPLES / "IDRiD_008.jpg").read_bytes())
    ledger.fill("july", [ImageReference(photograph.as_uri(), "eye")], {"eye": 4})
    sha256 = hashlib.sha256(photograph.read_bytes()).hexdigest()
    change(ledger.engine, "eye", content_sha256=sha256)
    assert report(ledger, "july", out) == []
    (image,) = held(out, "images-1")
    assert image["pictures"] is not None

    photograph.write_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes())
    (warning,) = report(ledger, "july", out)
    (image,) = held(out, "images-1")
    assert image["pictures"] is None
    assert image["missing"].startswith("no longer the photograph that was graded: SHA-256 is ")
    assert warning == f"no thumbnail for image eye: {image['missing']}"


def test_tables_equal_the_export(ledger: Ledger, out: Path) -> None:
    ledger.fill("july", references("a", "b"), {"a": 3})
    report(ledger, "july", out)
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image_id"], row["status"], row["grade"]) for row in rows] == [
        ("a", "graded", "3"),
        ("b", "queued", ""),
    ]
    assert pyarrow.parquet.read_table(out / "results.parquet").column("grade").to_pylist() == [3, None]


def test_large_report_is_split_into_parts_by_urgency(
    ledger: Ledger, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_writer, "IMAGES_PER_PART", 2)
    monkeypatch.setattr(report_writer, "PATIENTS_PER_PART", 3)
    monkeypatch.setattr(report_writer, "WITHIN_PAGE_BYTES", 0)
    names = [f"i{number}" for number in range(7)]
    ledger.fill("july", references(*names), {name: number % 5 for number, name in enumerate(names)})
    report(ledger, "july", out, pictures=False)
    assert sorted(path.name for path in out.glob("*.js")) == [
        *(f"images-{number}.js" for number in range(1, 5)), *(f"patients-{number}.js" for number in range(1, 4)),
    ]  # fmt: skip
    found = [re.findall(r'"id":"(\w+)"', (out / f"images-{number}.js").read_text()) for number in range(1, 5)]
    assert found == [["i4", "i3"], ["i2", "i1"], ["i6", "i0"], ["i5"]]


def test_large_run_has_thumbnails_of_referable_images_only_by_default(
    ledger: Ledger, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_writer, "ALL_PICTURES_UP_TO", 1)
    uris = {name: (SAMPLES / f"{name}.jpg").as_uri() for name in ("IDRiD_008", "IDRiD_138")}
    ledger.fill("july", [ImageReference(uri, name) for name, uri in uris.items()], {"IDRiD_008": 4, "IDRiD_138": 0})
    for asked, shown in ((False, [True, False]), (True, [True, True])):
        warnings = report(ledger, "july", out / str(asked), all_pictures=asked)
        assert [image["pictures"] is not None for image in held(out / str(asked), "images-1")] == shown
        assert [warning.partition(":")[0] for warning in warnings] == ["run has 2 images"] * (not asked)


def test_report_of_an_unfinished_run_shows_its_current_state(ledger: Ledger, out: Path) -> None:
    ledger.fill("july", references("a", "b"), {})
    report(ledger, "july", out)
    index = (out / "index.html").read_text()
    assert "<b>2</b> waiting to be graded" in index
    assert "No referable DR and no ungraded eye among the images graded so far." in index


def test_same_content_gives_the_same_files_and_old_parts_are_deleted(
    ledger: Ledger, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.fill("july", references("a", "b"), {"a": 0, "b": 1})
    with monkeypatch.context() as patch:
        patch.setattr(report_writer, "WITHIN_PAGE_BYTES", 0)
        report(ledger, "july", out, pictures=False)
    assert (out / "images-1.js").exists()
    written = []
    for _ in range(2):
        report(ledger, "july", out, pictures=False)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert sorted(written[0]) == ["index.html", "results.csv", "results.parquet", "summary.json"]


def test_interrupted_report_writes_no_page(ledger: Ledger, out: Path) -> None:
    ledger.fill("july", references("a"), {"a": 0})
    with pytest.raises(ReportStopped):
        report(ledger, "july", out, should_continue=lambda: False)
    assert not out.exists()


def test_unknown_run_is_refused_and_a_run_without_a_worker_is_reported(ledger: Ledger, out: Path) -> None:
    make_run(ledger.engine, "july", references("a"))
    with pytest.raises(RunError, match="no run 'dawn'"):
        report(ledger, "dawn", out / "dawn")
    report(ledger, "july", out / "july")
    assert "no worker has started this run" in (out / "july" / "index.html").read_text()
