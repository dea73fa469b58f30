"""Take README's pictures of a report of the shipped samples; source and patients are made up. Needs Chromium.

python -m deploy.docs.make_screenshots
"""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
FUNDUS = Path(sys.executable).with_name("fundus")
CHROMIUM = "/usr/bin/chromium"
QUALITY = 80
NIGHT = (
    "UPDATE runs SET name = 'night-1', source = 's3://screening/2026-11-22'",
    "UPDATE images SET eye = CASE rowid % 2 WHEN 0 THEN 'left' ELSE 'right' END,"
    " patient_id = printf('P%04d', 3107 + 13 * ((rowid + 1) / 2))",
)


def main() -> None:
    """Grade the samples, then photograph their report."""
    with TemporaryDirectory() as folder:
        out = Path(folder)
        _fundus("demo", "--out", str(out))
        with closing(sqlite3.connect(out / "fundus.db")) as connection, connection:
            for statement in NIGHT:
                connection.execute(statement)
        _fundus(
            "report", "night-1", "--out", str(out / "report"),
            FUNDUS_DATABASE_URL=f"sqlite:///{out / 'fundus.db'}", FUNDUS_STORAGE_URL=(out / "store").as_uri(),
        )  # fmt: skip
        _photograph((out / "report" / "index.html").as_uri())


def _photograph(address: str) -> None:
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not run as root.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        page = browser.new_page(viewport={"width": 1200, "height": 860})
        page.goto(address)
        _shoot(page, "report-overview")
        page.goto(f"{address}#images")
        page.wait_for_selector("body:not(:has([aria-busy])) article", state="attached")
        _shoot(page, "report-images")
        browser.close()


def _shoot(page: Page, name: str) -> None:
    page.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=QUALITY)


def _fundus(*arguments: str, **env: str) -> None:
    subprocess.run([FUNDUS, *arguments], env=os.environ | env, check=True)  # noqa: S603 - our own program


if __name__ == "__main__":
    main()
