"""A grader reads a run by keyboard alone: first readings, an unassisted second reading, an arbitration and an undo.

The session is recorded with pictures: `playwright show-trace reading.zip` in the test's folder shows it.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.browser.console_site import Site, require_two_readers, serve_site
from tests.unit.worker.console.accounts_and_runs import PASSWORD
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.sessions import SessionUser
from worker.core.vocabulary import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DISPUTED, HALF_READ = 1, 2
UNDONE_AT = 3


def decide(site: Site, reader: str, number: int, grade: int) -> None:
    image = read_image_detail(site.engine, "night", f"{number:05d}")
    assert image is not None
    form = ReviewForm(grade, "seen", image.model_result, 0)
    record_decision(site.engine, "night", image.image_id, SessionUser(reader, Role.GRADER, ""), form, default_readers=2)


def read_one(page: "Page", grade: int | None) -> None:
    """Press the key of a grade, give a reason for an arbitration, and save."""
    page.keyboard.press("u" if grade is None else str(grade))
    if page.inner_text("#yours") == "Your arbitration":
        page.keyboard.press("r")
        page.keyboard.type("haemorrhages in all quadrants")
        page.keyboard.press("Control+Enter")
    else:
        page.keyboard.press("Enter")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("images", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_grader_reads_a_run_by_keyboard_alone(browser: "Browser", tmp_path: Path, images: int) -> None:
    grades: list[int | None] = [(number * 3) % 5 if number % 9 != 8 else None for number in range(images)]
    with serve_site(tmp_path, grades) as site:
        require_two_readers(site.engine)
        decide(site, "ben", DISPUTED, 4)
        decide(site, "cleo", DISPUTED, 2)
        decide(site, "ben", HALF_READ, 1)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.tracing.start(screenshots=True)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(f"{site.address}/sign-in")
        page.keyboard.type("anna")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs/night")
        page.keyboard.press("n")
        page.wait_for_url("**/images/**")
        order = []
        while "/images/" in page.url:
            number = int(page.url.rpartition("/")[2][:5])
            order.append(number)
            assert page.inner_text(".trail .quiet") == f"{images + 1 - len(order)} of {images} left"
            assert (page.locator("text=Hidden until you have decided").count() == 1) == (number == HALF_READ)
            address = page.url
            if len(order) == UNDONE_AT:
                undo_one(page, address)
            read_one(page, grades[number])
            page.wait_for_url(lambda url, last=address: "saved=" in url and url != last)
        assert "No images left for you to review" in page.inner_text("h1")
        context.tracing.stop(path=tmp_path / "reading.zip")
        context.close()
        assert order[:2] == [DISPUTED, HALF_READ]
        assert sorted(order) == list(range(images))
        recorded = site.query(
            "SELECT d.image_id, d.kind, d.unassisted, w.decision_id IS NOT NULL FROM decisions d"
            " LEFT JOIN withdrawals w ON w.decision_id = d.decision_id WHERE d.reader = 'anna' ORDER BY d.decision_id"
        )
        assert len(recorded) == images + 1
        assert [image_id for image_id, *_, undone in recorded if undone] == [f"{order[UNDONE_AT - 1]:05d}"]
        assert [image_id for image_id, kind, *_ in recorded if kind == "arbitration"] == [f"{DISPUTED:05d}"]
        assert [image_id for image_id, _, unassisted, _ in recorded if unassisted] == [f"{HALF_READ:05d}"]
        with ZipFile(tmp_path / "reading.zip") as recording:
            assert sum(name.endswith(".jpeg") for name in recording.namelist()) > images


def undo_one(page: "Page", address: str) -> None:
    """Save as ungradable with a reason, and take it back."""
    page.keyboard.press("u")
    page.keyboard.press("r")
    page.keyboard.type("blurred")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: "saved=" in url and url != address)
    page.keyboard.press("Backspace")
    page.wait_for_selector("text=Undone: ungradable")
    assert page.input_value("textarea") == "blurred"
