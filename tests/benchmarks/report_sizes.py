"""Size of reports, time and processor time to write them, time to open them in a browser, and peak memory of writing.

python -m tests.benchmarks.report_sizes 0 1 1000 100000 [--out FOLDER]

Runs are like those of a screening programme: 7 in 100 images are ungraded or referable. Photographs are the shipped
samples, 768 pixels wide. Browser times are those of a new window that opens the report's folder.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2

from tests.browser.ledgers import fill_ledger
from worker.core.settings import parse_settings
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade
from worker.report.destination import folder_destination
from worker.report.writer import ReportOptions, write_report

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
WIDTH_PX = 768


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[0, 1, 1000, 100_000])
    parser.add_argument("--out", type=Path, help="Keep the reports here.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        make_photographs(out)
        print(f"{'images':>8}{'written':>10}{'processor':>11}{'peak RSS':>10}{'page':>10}{'files':>7}{'in all':>10}"
              f"{'opened':>9}{'gallery':>9}{'last page':>11}{'filter':>8}{'loaded':>10}{'heap':>8}")  # fmt: skip
        for count in arguments.counts:
            command = [sys.executable, "-m", "tests.benchmarks.write_one_report", str(count), str(out)]
            written = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            report = out / f"n{count}"
            files = [path for path in report.iterdir() if path.suffix in (".html", ".js")]
            seen = open_in_browser(report / "index.html")
            total_size = sum(file.stat().st_size for file in files)
            print(
                f"{count:8,}{written['seconds']:8.1f} s{written['cpu_s']:9.1f} s{written['peak_mb']:7.0f} MB"
                f"{format_size((report / 'index.html').stat().st_size)}{len(files):7,}{format_size(total_size)}"
                f"{seen['opened']:7.2f} s{seen['gallery']:7.2f} s{seen['last']:9.2f} s{seen['filter']:6.2f} s"
                f"{format_size(seen['loaded'])}{seen['heap_mb']:5.0f} MB",
                flush=True,
            )


def format_size(size: float) -> str:
    """Format a size in ten characters."""
    return f"{size / 1e6:7.1f} MB" if size >= 1e6 else f"{size / 1e3:7.1f} kB"


def make_photographs(out: Path) -> None:
    """Write downscaled samples: otherwise decoding would dominate the measurement."""
    folder = out / "photographs"
    folder.mkdir(exist_ok=True)
    for sample in sorted(SAMPLES.glob("IDRiD_*.jpg")):
        picture = cv2.imread(str(sample))
        height = round(WIDTH_PX * picture.shape[0] / picture.shape[1])
        cv2.imwrite(str(folder / sample.name), cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA))


def write_one(count: int, out: Path) -> dict[str, float]:
    """Fill a ledger and write its report. Returns `seconds`, `cpu_s` with decoders, and `peak_mb` of this process."""
    ledger = out / f"n{count}.db"
    ledger.unlink(missing_ok=True)
    settings = parse_settings(database_url=f"sqlite:///{ledger}", storage_url=(out / "store").as_uri())
    engine = connect(settings)
    upgrade(engine)
    fill_ledger(engine, f"n{count}", count, [path.as_uri() for path in sorted((out / "photographs").iterdir())])
    started, used = time.monotonic(), _measure_cpu_s()
    write_report(
        engine, settings, f"n{count}", folder_destination(out / f"n{count}"), ReportOptions(), on_warning=lambda _: None
    )
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, cpu_s = time.monotonic() - started, _measure_cpu_s() - used
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_kb / 1024}


def _measure_cpu_s() -> float:
    """Return the processor time of this process and of the decoding processes that have ended."""
    kinds = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in kinds)


def open_in_browser(index: Path) -> dict[str, Any]:
    """Measure seconds for the page, the first gallery with its images, the last page and a filter; bytes and heap."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM

    is_loaded = "!document.querySelector('article[aria-busy]') && [...document.images].every((image) => image.complete)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        page = browser.new_page(bypass_csp=True)  # Playwright polls by eval
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        times = {}

        def measure(name: str, action: Any) -> None:
            started = time.monotonic()
            action()
            page.wait_for_function(is_loaded)
            times[name] = time.monotonic() - started

        def navigate(place: str) -> Any:
            return lambda: page.evaluate(
                "place => new Promise((done) => { addEventListener('hashchange', () => setTimeout(done), {once: true});"
                " location.hash = place; })",
                place,
            )

        measure("opened", lambda: page.goto(index.as_uri()))
        measure("gallery", navigate("#images"))
        measure("last", navigate("#images?page=1000000"))
        measure("filter", navigate("#images?eye=left&unsure=1"))
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        browser.close()
    files = {url for url in loaded if url.startswith("file:")}
    size = sum(Path(url.removeprefix("file://")).stat().st_size for url in files)
    return times | {"loaded": size, "heap_mb": heap / 1e6}


if __name__ == "__main__":
    main()
