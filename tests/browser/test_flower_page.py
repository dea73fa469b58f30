"""Flower's pages in a real browser while a worker grades a run.

Needs Playwright and the system's Chromium. TEST_SCREENSHOTS names a folder for screenshots of the pages.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.services.flower import PASSWORD, USER, chunk_tasks, flower

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
SCREENSHOTS = os.environ.get("TEST_SCREENSHOTS")

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, http_credentials={"username": USER, "password": PASSWORD}
    )
    yield context.new_page()
    context.close()


def test_tasks_page_shows_run_and_size_of_every_chunk_and_no_image(
    page: "Page", tmp_path: Path, broker_url: str
) -> None:
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
        page.locator("#tasks-table tbody tr").nth(3).wait_for(timeout=60_000)
        rows = page.locator("#tasks-table tbody tr").all_inner_texts()
        _save_screenshot(page, "tasks")
        page.locator("#tasks-table tbody tr", has_text="fundus.grade_chunk").first.locator("a[href*='/task/']").click()
        page.wait_for_url("**/task/*")
        one = page.inner_text("body")
        _save_screenshot(page, "task")
        page.goto(f"{url}/workers")
        page.get_by_text("fundus-").first.wait_for(timeout=60_000)
        _save_screenshot(page, "workers")
        workers = page.inner_text("body")
    chunks = [row for row in rows if "fundus.grade_chunk" in row]
    assert all("SUCCESS" in row for row in chunks)
    assert sorted(re.findall(r"run=july, images=\d+", "".join(chunks))) == [
        "run=july, images=1",
        *["run=july, images=4"] * 3,
    ]
    assert "run=july, images=" in one
    assert not re.search(r"IDRiD|\.jpg|file:|sqlite", "".join(rows) + one + workers)
    assert failures == []


def _save_screenshot(page: "Page", name: str) -> None:
    if SCREENSHOTS is not None:
        page.screenshot(path=Path(SCREENSHOTS) / f"flower-{name}.png")
