"""Flower's page as an operator sees it in a browser, while a real worker grades a real run.

Needs Playwright, and Chromium as the system has it. TEST_SCREENSHOTS names a folder for pictures of the pages.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.services.flower import PASSWORD, USER, chunk_tasks, flower

SAMPLES = Path(__file__).parents[2] / "producer" / "samples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = os.environ.get("TEST_SCREENSHOTS")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`: playwright")
    with playwright.sync_playwright() as browsers:
        # Root may not have a sandbox; the only page is our own.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, http_credentials={"username": USER, "password": PASSWORD}
        )
        yield context.new_page()
        browser.close()


def test_tasks_page_names_run_and_size_of_every_chunk_and_no_image(page: Any, tmp_path: Path, broker_url: str) -> None:
    env = {
        "FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    fundus("db", "upgrade", env=env)
    with flower(env, tmp_path / "flower.log") as url, worker(env, tmp_path / "worker.log"):
        fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "july", "--chunk", "4", env=env)
        wait_until_finished("july", env)
        chunk_tasks(url, "SUCCESS", 4)
        page.goto(f"{url}/tasks")
        page.locator("#tasks-table tbody tr").nth(3).wait_for(timeout=20_000)
        rows = page.locator("#tasks-table tbody tr").all_inner_texts()
        _keep(page, "tasks")
        page.locator("#tasks-table tbody a[href*='/task/']").first.click()
        page.wait_for_url("**/task/*")
        one = page.inner_text("body")
        _keep(page, "task")
        page.goto(f"{url}/workers")
        page.get_by_text("fundus-").first.wait_for(timeout=20_000)
        _keep(page, "workers")
        workers = page.inner_text("body")
    assert len(rows) == 4
    assert all("fundus.grade_chunk" in row and "SUCCESS" in row for row in rows)
    assert sorted(re.findall(r"run=july, images=\d+", "".join(rows))) == [
        "run=july, images=1",
        *["run=july, images=4"] * 3,
    ]
    assert "run=july, images=" in one
    assert not re.search(r"IDRiD|\.jpg|file:|sqlite", "".join(rows) + one + workers)
    assert failures == []


def _keep(page: Any, name: str) -> None:
    if SCREENSHOTS is not None:
        page.screenshot(path=Path(SCREENSHOTS) / f"flower-{name}.png")
