"""Loading time and size of the console's pages with 0 to 100,000 images.

python -m tests.benchmarks.console_pages 0 1 1000 100000

The measured run is like that of a screening programme; up to 20 of its images are reviewed. The photographs are the
shipped samples, and the ledger holds 20 other runs. Times are from navigation to the last image, in a signed-in window;
thumbnails are loaded later, and the next page is opened when they are there. `image` is the first image page after the
console has started, which starts its decoder processes; `full size` is a later one with 4288 x 2848 pixels
that is not cached.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, update

from tests.benchmarks.photographs import full_size_jpegs
from tests.benchmarks.report_sizes import format_size
from tests.browser.console_site import PHOTOGRAPHS, draw_overlay, open_site
from tests.browser.ledgers import add_reviews, fill_ledger, ids_by_grade
from tests.services.console import serve_console
from tests.unit.worker.console.accounts_and_runs import PASSWORD
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.ledger.database import write_transaction
from worker.ledger.schema import gradings

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

OTHER_RUNS = 20
LARGE = 1
READ_BY_PEOPLE = 20
OVERLAY = "overlay.png"
Measured = dict[str, tuple[float, int] | None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[0, 1, 1000, 100_000])
    for number, count in enumerate(parser.parse_args().counts):
        with TemporaryDirectory() as folder:
            settings, engine = make_testbed(Path(folder), count)
            with serve_console(settings, engine) as address:
                measured = open_pages(address, count)
            engine.dispose()
        if number == 0:
            print(f"{'images':>8}" + "".join(f"{name:>22}" for name in measured))
        print(
            f"{count:8,}"
            + "".join(f"{one[0]:10.2f} s{format_size(one[1])}" if one else f"{'-':>22}" for one in measured.values()),
            flush=True,
        )


def make_testbed(folder: Path, count: int) -> tuple[Settings, Engine]:
    """Create a ledger with the run `big`, an account `anna`, and the images of its pages."""
    settings, engine = open_site(folder)
    photographs = [path.as_uri() for path in PHOTOGRAPHS]
    for number in range(OTHER_RUNS):
        fill_ledger(engine, f"night-{number:02}", 20, photographs, seed=number)
    run_id = fill_ledger(engine, "big", count, photographs)
    add_reviews(engine, "big", dict.fromkeys(ids_by_grade(engine, run_id, 2)[:READ_BY_PEOPLE], (3, 2)))
    large = folder / "inbox" / "large.jpg"
    large.write_bytes(next(full_size_jpegs(1)))
    fill_ledger(engine, "large", LARGE, [large.as_uri()], shares=(0, 0, 1, 0, 0))
    draw_overlay(Storage(settings), OVERLAY)
    with write_transaction(engine) as connection:
        connection.execute(update(gradings).where(gradings.c.overlay_key.is_not(None)).values(overlay_key=OVERLAY))
    return settings, engine


def open_pages(address: str, count: int) -> Measured:
    """Measure each page. Returns seconds and bytes transferred by page, None where the run has no such page."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        _sign_in(page, address)
        measured: Measured = {}
        for name, path in (
            ("runs", "/runs"),
            ("run", "/runs/big"),
            ("filter", "/runs/big?grade=4&eye=left"),
            ("urgency", "/runs/big?sort=urgency"),
            ("search", "/runs/big?q=000007"),
            ("last page", "/runs/big?before=~"),
            ("image", f"/runs/big/images/big-{max(0, count // 2):06}"),
        ):
            measured[name] = _measure(page, lambda path=path: page.goto(f"{address}{path}"))
        measured["full size"] = _measure(page, lambda: page.goto(f"{address}/runs/large/images/large-000000"))
        page.goto(f"{address}/runs/big")
        following = page.locator("text=Review next image")
        measured["next to read"] = _measure(page, following.click) if following.count() else None
        browser.close()
    return measured


def _sign_in(page: "Page", address: str) -> None:
    page.goto(f"{address}/sign-in")
    page.fill("input[name=name]", "anna")
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/runs")


def _measure(page: "Page", action: Callable[[], Any]) -> tuple[float, int]:
    requests: list[Request] = []
    # Playwright sets attributes on handlers, which fails for builtin methods.
    page.on("request", handler := lambda request: requests.append(request))
    started = time.monotonic()
    action()
    page.wait_for_load_state("load")
    seconds = time.monotonic() - started
    page.remove_listener("request", handler)
    page.wait_for_load_state("networkidle")
    return seconds, sum(_size(request) for request in requests)


def _size(request: "Request") -> int:
    answer = request.response()
    if answer is None:
        return 0
    answer.finished()
    return int(request.sizes()["responseBodySize"])


if __name__ == "__main__":
    main()
