"""Take the screenshots that `test_screenshots` compares. Update the references: python -m tests.browser.screenshots

Text is rendered in a box font, so that the result does not depend on installed fonts. Screenshots are stored at a
quarter of their size.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.browser import box_font
from tests.browser.console_site import serve_site
from tests.browser.ledgers import add_reviews, fill_ledger, ids_by_grade
from tests.unit.worker.console.accounts_and_runs import PASSWORD
from worker.core.settings import parse_settings
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade
from worker.report.destination import folder_destination
from worker.report.writer import ReportOptions, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REFERENCES = Path(__file__).with_name("references")
SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
HEIGHT_PX = 800
SHRINK = 4
COLOUR_TOLERANCE = 40
"""Colour differences up to this (of 255) depend on how a Chromium version renders edges and controls."""
SCENES = ("report", "report-dark", "report-phone", "gallery", "enlarged", "console", "console-dark", "console-phone")

Picture = NDArray[np.uint8]


def take_screenshots(browser: "Browser", folder: Path) -> dict[str, Picture]:
    """Take a screenshot of every scene, by name."""
    taken: dict[str, Picture] = {}
    address = _write_report(folder)
    for name, width, dark in (("report", 1280, False), ("report-dark", 1280, True), ("report-phone", 320, False)):
        with _page(browser, width=width, dark=dark) as page:
            page.goto(address)
            taken[name] = take_screenshot(page)
    with _page(browser) as page:
        page.goto(f"{address}#images")
        page.wait_for_selector("body:not(:has([aria-busy])) article", state="attached")
        taken["gallery"] = take_screenshot(page)
        page.locator("button.panels").nth(1).click()
        page.wait_for_selector("dialog[open]")
        taken["enlarged"] = take_screenshot(page)
    with serve_site(folder, [4, 2, None, 0]) as site:
        for name, width, dark in (
            ("console", 1280, False),
            ("console-dark", 1280, True),
            ("console-phone", 320, False),
        ):
            with _page(browser, width=width, dark=dark) as page:
                page.goto(f"{site.address}/sign-in?next=/runs/night/images/00001")
                page.fill("input[name=name]", "anna")
                page.fill("input[name=password]", PASSWORD)
                page.press("input[name=password]", "Enter")
                page.wait_for_selector(".over path.line", state="attached")
                page.wait_for_function("document.querySelector('.tint').naturalWidth > 0")
                page.locator("#opacity").fill("50")
                page.locator("#opacity").blur()
                taken[name] = take_screenshot(page)
    return taken


def take_screenshot(page: "Page", change: str = "") -> Picture:
    """Take a screenshot of the window in the box font at a quarter of its size. `change` is additional CSS."""
    page.add_style_tag(content=box_font.style() + change)
    page.evaluate("document.fonts.ready")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    whole = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    height, width = (side // SHRINK for side in whole.shape[:2])
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def differing_share(one: Picture, other: Picture) -> float:
    """Return the share of the area that differs, after a slight blur; 1 for different sizes."""
    if one.shape != other.shape:
        return 1.0
    smooth = [cv2.blur(picture, (3, 3)).astype(int) for picture in (one, other)]
    return float((np.abs(smooth[0] - smooth[1]).max(axis=2) > COLOUR_TOLERANCE).mean())


def read_reference(name: str) -> Picture:
    """Return the reference screenshot of a scene."""
    picture = cv2.imread(str(REFERENCES / f"{name}.png"))
    assert picture is not None, f"no reference for {name}: run python -m tests.browser.screenshots"
    return np.asarray(picture, np.uint8)


def _write_report(folder: Path) -> str:
    settings = parse_settings(
        database_url=f"sqlite:///{folder / 'report.db'}", storage_url=(folder / "store").as_uri(), decode_processes=1
    )
    engine = connect(settings)
    upgrade(engine)
    photographs = [path.as_uri() for path in sorted(SAMPLES.glob("IDRiD_*.jpg"))[:3]]
    run_id = fill_ledger(engine, "night", 36, photographs, shares=(0.4, 0.15, 0.15, 0.1, 0.1), seed=5)
    moderate = ids_by_grade(engine, run_id, 2)
    add_reviews(engine, "night", {moderate[0]: (2, 2), moderate[1]: (0, 0), ids_by_grade(engine, run_id, 4)[0]: (4, 3)})
    address = write_report(
        engine, settings, "night", folder_destination(folder / "report"), ReportOptions(), on_warning=lambda _: None
    )
    engine.dispose()
    return address


@contextmanager
def _page(browser: "Browser", *, width: int = 1280, dark: bool = False) -> Iterator["Page"]:
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT_PX},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        # The Content-Security-Policy of the pages would block the box font.
        bypass_csp=True,
    )
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def main() -> None:
    """Take all screenshots and store them as references."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM

    if CHROMIUM is None:
        sys.exit("Chromium is not installed: run apt-get install chromium")
    REFERENCES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        for name, picture in take_screenshots(browser, Path(folder)).items():
            cv2.imwrite(str(REFERENCES / f"{name}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        browser.close()


if __name__ == "__main__":
    main()
