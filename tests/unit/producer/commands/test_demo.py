"""The demo's table on a terminal of 80 columns."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from producer.commands.demo import show_result
from producer.demo.run_demo import DemoImage, DemoResult
from worker.core.vocabulary import Status

OVERLAYS = Path("/store/night/0123456789abcdef")
UID = "2.25.205616561839485724590187349857230948572"


def shown(*images: DemoImage) -> list[str]:
    result = DemoResult("night", images, 12.8, Path("fundus.db"), Path("store"), Path("worker.log"), None)
    written = StringIO()
    show_result(result, Console(file=written, width=80))
    return written.getvalue().splitlines()


def graded(name: str, overlay: str) -> DemoImage:
    return DemoImage(name, Status.GRADED, 4, 4, referable=True, overlay=OVERLAYS / overlay, error_code=None)


def test_each_image_is_one_line_of_eighty_columns() -> None:
    lines = shown(
        graded("IDRiD_008-dicom", f"{UID}.dcm"),
        graded("IDRiD_138", "IDRiD_138.jpg"),
        DemoImage("black-frame", Status.UNGRADABLE, None, None, None, None, "no_field"),
    )
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [(row[0], row[-1]) for row in rows] == [
        ("IDRiD_008-dicom", "2.25.2…72.dcm"),
        ("IDRiD_138", "IDRiD_138.jpg"),
        ("black-frame", "no_field"),
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("status", [Status.GRADED, Status.QUARANTINED])
def test_long_names_lose_their_middle(status: Status) -> None:
    names = [f"clinic-of-the-north-2026-11-30-patient-{number:03d}-left" for number in (1, 2)]
    lines = shown(*(DemoImage(name, status, None, None, None, None, "decoder_crashed") for name in names))
    rows = [line for line in lines if line.startswith("│")]
    assert [("clinic" in row, f"{number}-left" in row) for number, row in zip((1, 2), rows, strict=True)] == [
        (True, True)
    ] * 2
    assert max(map(len, lines)) <= 80
