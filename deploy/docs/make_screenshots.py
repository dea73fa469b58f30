"""Take README's pictures of what people look at, of the shipped samples. Needs Chromium.

python -m deploy.docs.make_screenshots
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
SAMPLES = Path(__file__).parents[2] / "producer" / "samples"
FUNDUS = Path(sys.executable).with_name("fundus")
CHROMIUM = "/usr/bin/chromium"
QUALITY = 80
PANEL_SAMPLES = ("IDRiD_020.jpg", "IDRiD_008.jpg")


def main() -> None:
    """Grade the samples, then photograph their report."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        _fundus("demo", "--out", str(out))
        store = {
            "FUNDUS_DATABASE_URL": f"sqlite:///{out / 'fundus.db'}",
            "FUNDUS_STORAGE_URL": (out / "store").as_uri(),
        }
        run = next(path.name for path in (out / "store").iterdir())
        _fundus("report", run, "--out", str(out / "report"), **store)
        _photograph_report((out / "report" / "index.html").as_uri())
    _fundus("panel", *(str(SAMPLES / name) for name in PANEL_SAMPLES), "--out", str(HERE / "panel.png"),
            FUNDUS_OVERLAY_SIZE_PX="320")  # fmt: skip


def _photograph_report(address: str) -> None:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1200, "height": 860})
        page.goto(address)
        _shoot(page, "report-overview")
        page.goto(f"{address}#images")
        page.wait_for_selector("body:not(:has([aria-busy]))", state="attached")
        _shoot(page, "report-images")
        page.emulate_media(color_scheme="dark")
        page.locator("button.panels").first.click()
        _shoot(page, "report-enlarged")
        browser.close()


def _shoot(page: Page, name: str) -> None:
    page.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=QUALITY)


def _fundus(*arguments: str, **env: str) -> None:
    subprocess.run([FUNDUS, *arguments], env=os.environ | env, check=True)  # noqa: S603 - our own program


if __name__ == "__main__":
    main()
