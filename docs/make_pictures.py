"""Take README's pictures of everything that people look at: the samples, graded by the demo. Needs Chromium.

python -m docs.make_pictures

The photographs are the shipped ones of IDRiD (CC BY 4.0,
see producer/demo/samples/ATTRIBUTION.md); patients are made up.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine, select, text

from docs.terminal import draw_terminal, run_on_terminal
from tests.browser.ledgers import add_reviews
from tests.services.console import serve_console
from worker.console.accounts import set_password
from worker.core.settings import Settings, parse_settings
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.schema import gradings

HERE = Path(__file__).parent
FUNDUS = str(Path(sys.executable).with_name("fundus"))
RUN = "night-1"
QUALITY = 72
PASSWORD = "for these pictures alone"  # noqa: S105 - of a ledger that is deleted with them
NIGHT = (
    "UPDATE runs SET source = 's3://screening/2026-11-22'",
    "UPDATE images SET eye = CASE rowid % 2 WHEN 0 THEN 'left' ELSE 'right' END,"
    " patient_id = printf('P%04d', 3107 + 13 * ((rowid + 1) / 2))",
)


def main() -> None:
    """Grade the samples, have some read, and take the pictures."""
    chromium = shutil.which("chromium") or sys.exit("no Chromium on this machine: apt-get install chromium")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        out = Path(folder)
        # Chromium's own sandbox does not run as root.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        _save("terminal", draw_terminal(browser, list(_show_terminal(out))))
        settings = _settings(out)
        engine = connect(settings)
        _make_up(engine)
        subprocess.run([FUNDUS, "report", RUN, "--out", str(out / "report")], env=_env(out), check=True)  # noqa: S603
        _photograph_report(browser, (out / "report" / "index.html").as_uri())
        _photograph_console(browser, settings, engine)
        _save_overlay(out)
        browser.close()
        engine.dispose()


def _show_terminal(out: Path) -> Iterator[tuple[str, str]]:
    demo = ["demo", "--out", str(out), "--run", RUN]
    subprocess.run([FUNDUS, *demo], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    for command in (["status", RUN], ["status", "night-2"]):
        yield f"fundus {' '.join(command)}", run_on_terminal([FUNDUS, *command], _env(out))


def _env(out: Path) -> dict[str, str]:
    return {
        **os.environ,
        "FUNDUS_DATABASE_URL": f"sqlite:///{out / 'fundus.db'}",
        "FUNDUS_STORAGE_URL": (out / "store").as_uri(),
    }


def _settings(out: Path) -> Settings:
    return parse_settings(database_url=f"sqlite:///{out / 'fundus.db'}", storage_url=(out / "store").as_uri())


def _make_up(engine: Engine) -> None:
    """Patients, and what readers said of three images."""
    with write_transaction(engine) as connection:
        for statement in NIGHT:
            connection.execute(text(statement))
    wrong = select(gradings.c.image_id, gradings.c.grade).where(gradings.c.grade.is_not(None))
    with read_transaction(engine) as connection:
        worst, next_to_it, *_, mildest = connection.execute(
            wrong.order_by(gradings.c.grade.desc(), gradings.c.image_id)
        )
    said = {worst.image_id: (4, 4), next_to_it.image_id: (next_to_it.grade,), mildest.image_id: (1, 1)}
    add_reviews(engine, RUN, said)
    set_password(engine, "anna", PASSWORD)


def _photograph_report(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 860})
    page.goto(address)
    _shoot(page, "report-overview")
    page.goto(f"{address}#images")
    page.wait_for_selector("body:not(:has([aria-busy])) article", state="attached")
    _shoot(page, "report-images")
    page.locator("button.panels").nth(1).click()
    page.wait_for_selector("dialog[open]")
    _shoot(page, "report-image")
    page.close()


def _photograph_console(browser: Browser, settings: Settings, engine: Engine) -> None:
    with read_transaction(engine) as connection:
        image_id = connection.scalar(
            select(gradings.c.image_id).where(gradings.c.grade == 2).order_by(gradings.c.p_ge2.desc()).limit(1)
        )
    with serve_console(settings, engine) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 820})
        page.goto(f"{address}/sign-in?next=/runs/{RUN}/images/{image_id}")
        page.fill("input[name=name]", "anna")
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.wait_for_selector(".photograph")
        page.wait_for_load_state("networkidle")
        page.locator("#opacity").fill("50")
        page.locator("#opacity").blur()
        _shoot(page, "console")
        page.close()


def _save_overlay(out: Path) -> None:
    """Photograph and overlay of one image, side by side."""
    picture = out / "panel.png"
    subprocess.run(  # noqa: S603
        [FUNDUS, "panel", str(HERE.parent / "producer/demo/samples/IDRiD_020.jpg"), "--out", str(picture)],
        env=_env(out),
        check=True,
    )
    _save("overlay", picture.read_bytes())


def _shoot(page: Page, name: str) -> None:
    _save(name, page.screenshot())


def _save(name: str, png: bytes) -> None:
    """As WebP: a third of the bytes of a JPEG."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(HERE / f"{name}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
