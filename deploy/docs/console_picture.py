"""Draw the picture of the console that README shows: the samples, graded by the demo, in a real browser.

python -m deploy.docs.console_picture      needs Chromium
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright
from sqlalchemy import select

from producer.demo import SAMPLES, run_demo
from tests.services.console import serving
from worker.console.accounts import add_user
from worker.contract.database import connect, reading
from worker.contract.schema import gradings, runs
from worker.contract.settings import parse_settings
from worker.contract.vocabulary import Role

PICTURE = Path(__file__).with_name("console.png")
PASSWORD = "for this picture alone"  # noqa: S105 - of a ledger that is deleted with it
SIZE = {"width": 1280, "height": 820}


def draw_picture(folder: Path, chromium: str) -> None:
    """Grade the samples, sign in, open an image of grade 2 with half its overlay."""
    result = run_demo(folder, str(SAMPLES), lambda _settled, _total: None)
    settings = parse_settings(database_url=f"sqlite:///{result.database}", storage_url=result.store.as_uri())
    engine = connect(settings)
    add_user(engine, "anna", Role.GRADER, PASSWORD)
    with reading(engine) as connection:
        run, image_id = connection.execute(
            select(runs.c.name, gradings.c.image_id)
            .join(gradings, gradings.c.run_id == runs.c.run_id)
            .where(gradings.c.grade == 2)
            .order_by(gradings.c.p_ge2.desc())
        ).first() or sys.exit("the demo graded no image 2")
    with serving(settings, engine) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{address}/sign-in?next=/runs/{run}/images/{image_id}")
        page.fill("input[name=name]", "anna")
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.wait_for_load_state("load")
        page.locator("#opacity").fill("50")
        page.locator("#opacity").blur()
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    found = shutil.which("chromium") or sys.exit("no Chromium on this machine: apt-get install chromium")
    with TemporaryDirectory() as scratch:
        draw_picture(Path(scratch), found)
