"""From `fundus worker` to the first graded row, and what the time goes to.

    python -m tests.benchmarks.cold_start [--starts N] [--engine NAME ...]

The queue holds one chunk of the sample photographs before the worker starts, on SQLite, a folder and Valkey.
"""

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.integration.processes import FUNDUS, fundus
from tests.services.stack import running

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples" / "manifest.csv"
GRADED_WITHIN_S = 300
LIMIT_S = 10
IMPORTED = "worker.app, worker.inference.runtime, worker.commands.worker, worker.model.engines.openvino_engine"
LARGEST = 8


@dataclass(frozen=True)
class Start:
    """Seconds after the start of the process; `processor` is what it had spent on all cores by its first grade."""

    ready: float
    graded: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--engine", nargs="+", default=["openvino", "tensorflow"])
    options = parser.parse_args()
    rows = []
    for engine in options.engine:
        starts = [start_once(engine) for _ in range(options.starts)]
        ready, graded, processor = (
            [getattr(start, name) for start in starts] for name in ("ready", "graded", "processor")
        )
        verdict = "met" if np.median(graded) < LIMIT_S else "missed"
        rows.append((engine, with_range(ready), with_range(graded), with_range(processor), verdict))
    text = f"""## Cold start

Seconds from the start of `fundus worker` to its line `ready`, and to the first committed grade: median, and in brackets
the least and the greatest of {options.starts} starts. A start has to grade within {LIMIT_S} s. The processor time is
the worker's own; what else runs on the machine hardly changes it.

Command: `python -m tests.benchmarks.cold_start`. Machine: {describe_machine()}.

{as_table(("engine", "ready, s", "first grade, s", "processor time, s", f"< {LIMIT_S} s"), rows)}

The largest costs of importing what an OpenVINO worker imports (`python -X importtime`, time in the package's own
modules):

{as_table(("package", "ms"), [(name, f"{ms:.0f}") for name, ms in import_costs()])}
"""
    print(text)
    write_section("cold start", text)


def start_once(engine: str) -> Start:
    """One worker on a fresh ledger whose queue is filled; it is stopped after its first grade."""
    with running(["valkey"]) as stack, tempfile.TemporaryDirectory() as scratch:
        ledger, log = Path(scratch) / "ledger.db", Path(scratch) / "worker.log"
        env = {
            "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
            "FUNDUS_BROKER_URL": stack.broker_url or "",
            "FUNDUS_STORAGE_URL": Path(scratch).as_uri(),
            "FUNDUS_ENGINE": engine,
        }
        fundus("db", "upgrade", env=env)
        fundus("enqueue", str(SAMPLES), "--run", "cold", env=env)
        began = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen([FUNDUS, "worker"], env={**os.environ, **env}, stdout=out, stderr=out)
        try:
            return watch(process, log, ledger, began)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def watch(process: subprocess.Popen[bytes], log: Path, ledger: Path, began: float) -> Start:
    """Wait for both marks. Raises TimeoutError, with the log, if the second does not come."""
    ready = 0.0
    database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    while time.monotonic() < began + GRADED_WITHIN_S and process.poll() is None:
        if not ready and "model_id=" in log.read_text():
            ready = time.monotonic() - began
        if database.execute("SELECT 1 FROM gradings WHERE status = 'graded' LIMIT 1").fetchone():
            database.close()
            spent = psutil.Process(process.pid).cpu_times()
            return Start(ready, time.monotonic() - began, spent.user + spent.system)
        time.sleep(0.02)
    raise TimeoutError(log.read_text())


def import_costs() -> list[tuple[str, float]]:
    """The packages that take longest to import, milliseconds in their own modules."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {IMPORTED}"], capture_output=True, text=True, check=True
    )
    costs: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            costs[name.strip().partition(".")[0]] += int(own) / 1000
    return sorted(costs.items(), key=lambda cost: -cost[1])[:LARGEST]


def with_range(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
