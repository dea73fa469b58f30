"""A report in its folder: its links, its numbers, and what strangers' words cannot do to it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import Engine

from producer.runs import Run
from producer.sources.reference import Reference
from tests.unit.producer.ledger_rows import NOON, fail, grade, make_run, references
from worker.contract.database import connect, writing
from worker.contract.errors import RunError
from worker.contract.schema import models, runs
from worker.contract.settings import Settings
from worker.contract.vocabulary import Eye, Grade, Status
from worker.model.bundle import DEFAULT_BUNDLE, find_bundle, read_manifest
from worker.report import pages as report_pages
from worker.report.pages import Choices, write_report
from worker.report.patients import NEXT_STEPS

SAMPLES = Path(__file__).parents[4] / "producer" / "samples"
MANIFEST = read_manifest(find_bundle(DEFAULT_BUNDLE))
HOSTILE = '<script>alert("x")</script>&\' "'


@dataclass
class Ledger:
    engine: Engine
    settings: Settings

    def fill(self, name: str, photographs: list[Reference], grades: dict[str, int]) -> Run:
        run = make_run(self.engine, name, photographs)
        saliency = np.eye(7, dtype=np.float16).tobytes()
        for image_id, found in grades.items():
            grade(self.engine, run, image_id, found, model_id=MANIFEST.model_id, saliency=saliency)
        with writing(self.engine) as connection:
            connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(model_id=MANIFEST.model_id))
        return run


@pytest.fixture
def ledger(sqlite_url: str, make_settings: Callable[..., Settings]) -> Ledger:
    settings = make_settings(database_url=sqlite_url, decode_processes=1)
    engine = connect(settings)
    with writing(engine) as connection:
        document = MANIFEST.model_dump(mode="json")
        connection.execute(
            models.insert().values(
                model_id=MANIFEST.model_id, name=MANIFEST.name, document=document, registered_at=NOON
            )
        )
    return Ledger(engine, settings)


class Links(HTMLParser):
    """What a page points at, and the ids that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset", "data") and value:
                self.targets.append(value)
            if name == "id" and value:
                self.ids.add(value)


def assert_whole(out: Path) -> None:
    """Every link of every page leads to a file of the folder, and to a place that is there."""
    pages = {page.name: Links(page) for page in out.glob("*.html")}
    for name, page in pages.items():
        for target in page.targets:
            if target == "data:,":
                continue
            file, _, place = target.partition("#")
            assert (out / (file or name)).is_file(), f"{name} points at {target}"
            assert not place or place in pages[file or name].ids, f"{name} points at {target}"
    for file in out.glob("report.*"):
        assert not re.search(r"url\(|https?:|@import", file.read_text())


def report(ledger: Ledger, run: str, out: Path, **choices: object) -> list[str]:
    """Write it; the remarks."""
    remarks: list[str] = []
    defaults: dict[str, object] = {"next_steps": NEXT_STEPS}
    index = write_report(
        ledger.engine,
        ledger.settings,
        run,
        out,
        Choices(**defaults | choices),  # type: ignore[arg-type]
        remark=remarks.append,
    )
    assert index == out / "index.html"
    assert_whole(out)
    return remarks


def test_patients_pictures_and_numbers_are_there(ledger: Ledger, tmp_path: Path) -> None:
    right = Reference((SAMPLES / "IDRiD_008.jpg").as_uri(), "r", "Patient 7", Eye.RIGHT, Grade(4))
    left = Reference((SAMPLES / "IDRiD_138.jpg").as_uri(), "l", "Patient 7", Eye.LEFT)
    run = ledger.fill("july", [right, left, *references("gone", "dark")], {"r": 4, "l": 0, "gone": 2})
    fail(ledger.engine, run, "dark", "too_dark", Status.UNGRADABLE)
    ledger.fill("june", references("x"), {"x": 1})

    remarks = report(ledger, "july", tmp_path / "out", baseline="june")

    assert [remark.partition(":")[0] for remark in remarks] == ["gone has no picture in the report"]
    index = (tmp_path / "out" / "index.html").read_text()
    assert "Patient 7" in index
    assert "Refer to an ophthalmologist urgently." in index
    assert "too_dark" in index
    assert "100.0 %" in index  # of the baseline
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["by_grade"] == {
        "0": 1, "1": 0, "2": 1, "3": 0, "4": 1,
    }  # fmt: skip
    pictures = sorted(path.name.partition("-")[2] for path in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == ["enhanced.jpg"] * 2 + ["overlay.jpg"] * 2 + ["photograph.jpg"] * 2
    shapes = {cv2.imread(str(path)).shape for path in (tmp_path / "out" / "pictures").glob("*-overlay.jpg")}
    assert shapes == {(384, 384, 3)}


def test_words_of_strangers_stay_words(ledger: Ledger, tmp_path: Path) -> None:
    photograph = Reference("file:///eyes/%3Cimg%20src=x%20onerror=alert(1)%3E.jpg", "a", HOSTILE, Eye.RIGHT)
    run = ledger.fill("july", [photograph, *references("b")], {"a": 2})
    fail(ledger.engine, run, "b", "image_format")
    with writing(ledger.engine) as connection:
        connection.execute(runs.update().values(source=HOSTILE))
    report(ledger, "july", tmp_path, pictures=False, next_steps={**NEXT_STEPS, "2": HOSTILE})
    for page in tmp_path.glob("*.html"):
        scripts = Links(page).tags.count("script")
        assert scripts == (1 if page.name.startswith(("grade", "failed")) else 0), page.name
        assert "alert(" not in page.read_text().replace("&lt;script&gt;alert(", "").replace("onerror=alert(1)%3E", "")


def test_long_lists_are_paged(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pages, "IMAGES_PER_PAGE", 2)
    monkeypatch.setattr(report_pages, "PATIENTS_PER_PAGE", 3)
    names = [f"i{number}" for number in range(7)]
    ledger.fill("july", references(*names), dict.fromkeys(names, 3))
    report(ledger, "july", tmp_path, pictures=False)
    assert sorted(page.name for page in tmp_path.glob("*.html")) == [
        *(f"grade-3-{number}.html" for number in range(1, 5)), "index.html",
        *(f"patients-{number}.html" for number in range(1, 4)),
    ]  # fmt: skip
    assert "Page 2 of 4" in (tmp_path / "grade-3-2.html").read_text()


def test_large_run_has_pictures_of_referable_images_unless_asked(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_pages, "ALL_PICTURES_UP_TO", 1)
    uris = {name: (SAMPLES / f"{name}.jpg").as_uri() for name in ("IDRiD_008", "IDRiD_138")}
    ledger.fill("july", [Reference(uri, name) for name, uri in uris.items()], {"IDRiD_008": 4, "IDRiD_138": 0})
    remarks = report(ledger, "july", tmp_path / "some")
    assert remarks == ["only the 1 referable of 2 images have pictures; all: --all-pictures"]
    assert len(list((tmp_path / "some" / "pictures").iterdir())) == 3
    assert report(ledger, "july", tmp_path / "all", all_pictures=True) == []
    assert len(list((tmp_path / "all" / "pictures").iterdir())) == 6


def test_run_that_is_still_going_on_tells_what_it_has(ledger: Ledger, tmp_path: Path) -> None:
    ledger.fill("july", references("a", "b"), {})
    report(ledger, "july", tmp_path)
    index = (tmp_path / "index.html").read_text()
    assert "<b>2</b> queued" in index
    assert "Nobody is referable" in index


def test_second_report_replaces_the_first(ledger: Ledger, tmp_path: Path) -> None:
    ledger.fill("july", references("a"), {"a": 0})
    report(ledger, "july", tmp_path, pictures=False)
    first = (tmp_path / "index.html").read_bytes()
    report(ledger, "july", tmp_path, pictures=False)
    assert (tmp_path / "index.html").read_bytes() == first


def test_unknown_run_and_one_that_nobody_began_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    make_run(ledger.engine, "july", references("a"))
    for name, complaint in {"dawn": "no run 'dawn'", "july": "run july has no graded image yet"}.items():
        with pytest.raises(RunError, match=complaint):
            report(ledger, name, tmp_path / name)
