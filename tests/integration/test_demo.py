"""`fundus demo` on a machine without running services."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import cv2
import psutil
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from tests.integration.processes import fundus
from tests.services.dicom_validators import DCIODVFY, find_dciodvfy_errors

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
DICOM_SAMPLES = SAMPLES.with_name("dicom")
COUNTS = {"images": 15, "graded": 13, "ungradable": 1, "failed": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("demo")
    done = fundus("demo", "--out", str(out), "--json", env={})
    return {"out": out, "stdout": done.stdout, **json.loads(done.stdout.splitlines()[-1])}


def test_last_line_has_the_counts(demo: dict[str, object]) -> None:
    assert {name: demo[name] for name in COUNTS} == COUNTS
    assert str(demo["run"]).startswith("demo-")
    assert float(str(demo["seconds"])) > 0


def test_overlays_show_saliency_only_within_the_field(demo: dict[str, object]) -> None:
    overlays = sorted(Path(str(demo["store"])).rglob("*.jpg"))
    assert len(overlays) == 13
    for path in overlays:
        overlay = cv2.imread(str(path))
        assert path.stat().st_size > 10_000
        assert overlay[:5, :5].max() == 0
    # Lines at 50 and 80 % are white, and a fundus hardly is.
    referable = cv2.imread(str(next(path for path in overlays if path.stem == "IDRiD_008")))
    assert (referable.min(axis=2) > 235).mean() > 0.005


def test_report_is_written(demo: dict[str, object]) -> None:
    page = Path(str(demo["report"])).read_text()
    assert page.count('"pictures":{') == 14  # images that could be decoded
    assert '"graded": 13' in Path(str(demo["report"])).with_name("summary.json").read_text()


def test_ledger_agrees_with_the_summary(demo: dict[str, object]) -> None:
    with sqlite3.connect(str(demo["database"])) as connection:
        rows = dict(connection.execute("SELECT status, count(*) FROM gradings GROUP BY status"))
    assert rows == {"graded": 13, "ungradable": 1, "failed": 1}


def test_dicom_samples_have_the_frames_eyes_and_grades_of_their_photographs(demo: dict[str, object]) -> None:
    columns = "eye, source, study_date, patient_id, reference_grade, uri, grade, p_ge1, p_ge2, p_ge3, p_ge4"
    with sqlite3.connect(str(demo["database"])) as connection:
        rows = connection.execute(f"SELECT {columns} FROM images JOIN gradings USING (image_id)").fetchall()
    found = {str(row[5]).rpartition("/")[2]: row for row in rows}
    for name, eye in (("IDRiD_008", "left"), ("IDRiD_047", "right")):
        photograph, instance = found[f"{name}.jpg"], found[f"{name}-dicom.dcm"]
        assert instance[:3] == (eye, "Sample camera", "2026-11-28")
        assert name not in instance[3]
        assert instance[4] == photograph[4]
        # The same pixels, so the same grade and scores, to the last bit.
        assert instance[6:] == photograph[6:]
        file = DICOM_SAMPLES / f"{name}-dicom.dcm"
        assert next(generate_frames(dcmread(file).PixelData, number_of_frames=1)) == _padded(SAMPLES / f"{name}.jpg")
        assert DCIODVFY is None or find_dciodvfy_errors(file) == []


def _padded(photograph: Path) -> bytes:
    """Frames have an even number of bytes."""
    jpeg = photograph.read_bytes()
    return jpeg + b"\0" * (len(jpeg) % 2)


def test_nothing_is_left_running(demo: dict[str, object]) -> None:
    ours = [p for p in psutil.process_iter(["cmdline"]) if str(demo["out"]) in " ".join(p.info["cmdline"] or [])]
    assert ours == []


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a demo of two files with reference grades and panels as overlays; return its folder and output."""
    folder = tmp_path_factory.mktemp("named")
    photographs = folder / "photographs"
    photographs.mkdir()
    (photographs / "note.jpg").write_text("no picture")
    shutil.copy(SAMPLES / "IDRiD_008.jpg", photographs)
    labels = folder / "labels.csv"
    labels.write_text("image,dr_grade\nIDRiD_008,4\n")
    done = fundus(
        "demo", "--out", str(folder / "out"), "--images", str(photographs), "--labels", str(labels), "--run", "first",
        env={"COLUMNS": "80", "FUNDUS_OVERLAY_PANELS": "true", "FUNDUS_OVERLAY_COLOURS": "notebook"},
    )  # fmt: skip
    return folder, done.stdout


def test_table_fits_a_terminal_of_80_columns(named: tuple[Path, str]) -> None:
    folder, printed = named
    assert "image_format" in printed
    assert max(map(len, printed.splitlines())) <= 80 or os.path.relpath(folder) in printed


def test_run_has_its_name_and_reference_grades(named: tuple[Path, str]) -> None:
    folder, printed = named
    assert "Run first" in printed
    assert {line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│")} == {
        "IDRiD_008",
        "note",
    }
    with sqlite3.connect(folder / "out" / "fundus.db") as connection:
        rows = connection.execute("SELECT reference_grade FROM images WHERE uri LIKE '%IDRiD_008.jpg'").fetchall()
    assert rows == [(4,)]


def test_overlay_can_be_a_panel_of_three_pictures(named: tuple[Path, str]) -> None:
    (path,) = (named[0] / "out" / "store").rglob("*.jpg")
    picture = cv2.imread(str(path)).astype(int)
    height, width = picture.shape[:2]
    assert 2.5 < width / height < 3
    middle = [
        picture[height // 2 - 40 : height // 2 + 40, width * (1 + 2 * place) // 6 - 40 :][:, :80] for place in range(3)
    ]
    photograph, preprocessed, overlay = (tile.reshape(-1, 3).mean(axis=0) for tile in middle)
    assert photograph[2] > 2 * photograph[0]  # a retina is red
    assert abs(preprocessed - 128).max() < 40  # background subtraction leaves grey
    assert overlay[0] > photograph[0] + 50  # magenta to cyan is blue


@pytest.mark.parametrize("folder", ["/no/such/folder", "empty"])
def test_source_without_photographs_fails_with_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    source = tmp_path / folder
    done = fundus("demo", "--out", str(tmp_path / "out"), "--images", str(source), env={}, check=False)
    assert done.returncode == 2
    assert str(source) in done.stderr
    assert done.stderr.count("\n") == 1
