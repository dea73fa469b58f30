"""`fundus demo` on a machine where nothing runs."""

import json
import os
import sqlite3
from pathlib import Path

import cv2
import psutil
import pytest

from tests.integration.processes import fundus

COUNTS = {"images": 13, "graded": 11, "ungradable": 1, "failed": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("demo")
    done = fundus("demo", "--out", str(out), "--json", env={})
    return {"out": out, "stdout": done.stdout, **json.loads(done.stdout.splitlines()[-1])}


def test_last_line_says_what_was_done(demo: dict[str, object]) -> None:
    assert {name: demo[name] for name in COUNTS} == COUNTS
    assert str(demo["run"]).startswith("demo-")
    assert float(str(demo["seconds"])) > 0


def test_overlays_open_and_show_saliency_on_the_eye_alone(demo: dict[str, object]) -> None:
    overlays = sorted(Path(str(demo["store"])).rglob("*.jpg"))
    assert len(overlays) == 11
    for path in overlays:
        blue, green, red = cv2.split(cv2.imread(str(path)).astype(int))
        assert path.stat().st_size > 15_000
        # Magenta to cyan is never without blue; a photograph's eye is mostly red.
        assert ((blue > 100) & (red + green > 100)).mean() > 0.3
        assert (blue + green + red)[:5, :5].max() == 0


def test_report_is_there(demo: dict[str, object]) -> None:
    page = Path(str(demo["report"])).read_text()
    assert page.count('"pictures":[') == 11
    assert '"graded": 11' in Path(str(demo["report"])).with_name("summary.json").read_text()


def test_ledger_agrees_with_the_summary(demo: dict[str, object]) -> None:
    with sqlite3.connect(str(demo["database"])) as connection:
        rows = dict(connection.execute("SELECT status, count(*) FROM gradings GROUP BY status"))
    assert rows == {"graded": 11, "ungradable": 1, "failed": 1}


def test_nothing_is_left_running(demo: dict[str, object]) -> None:
    ours = [p for p in psutil.process_iter(["cmdline"]) if str(demo["out"]) in " ".join(p.info["cmdline"] or [])]
    assert ours == []


def test_table_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "note.jpg").write_text("no picture")
    done = fundus("demo", "--out", str(tmp_path / "out"), "--images", str(one), env={"COLUMNS": "80"})
    assert "image_format" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80 or os.path.relpath(tmp_path) in done.stdout


def test_source_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    done = fundus("demo", "--out", str(tmp_path / "out"), "--images", "/no/such/folder", env={}, check=False)
    assert done.returncode == 2
    assert "/no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr
