"""Time from the start of `fundus worker` to the first graded row, and the import times that are part of it.

    python -m tests.benchmarks.cold_start [--starts N] [--engine NAME ...]

The queue holds one chunk of the sample photographs before the worker starts; SQLite, a folder and Valkey.
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

from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.integration.processes import FUNDUS, fundus
from tests.services.stack import running_servers

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples" / "manifest.csv"
GRADED_TIMEOUT_S = 300
TARGET_S = 10
WORKER_MODULES = "worker.app, worker.inference.runtime, worker.commands.worker, worker.model.engines.openvino_engine"
MAX_PACKAGES = 8


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process. cpu_s: CPU time on all cores until the first grade."""

    ready_s: float
    graded_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--engine", nargs="+", default=["openvino", "tensorflow"])
    options = parser.parse_args()
    rows = []
    for engine in options.engine:
        starts = [start_once(engine) for _ in range(options.starts)]
        ready_s, graded_s, cpu_s = (
            [getattr(start, name) for start in starts] for name in ("ready_s", "graded_s", "cpu_s")
        )
        verdict = "met" if np.median(graded_s) < TARGET_S else "missed"
        rows.append((engine, format_range(ready_s, 1), format_range(graded_s, 1), format_range(cpu_s, 1), verdict))
    text = f"""## Cold start

Seconds from the start of `fundus worker` to its log line `ready` and to the first committed grade: median (minimum to
maximum) of {options.starts} starts; the target is {TARGET_S} s. The CPU time is that of the worker; other load on the
machine hardly affects it.

Command: `python -m tests.benchmarks.cold_start`. Machine: {describe_machine()}.

{as_table(("engine", "ready, s", "first grade, s", "CPU time, s", f"< {TARGET_S} s"), rows)}

Longest import times of an OpenVINO worker by package (`python -X importtime`, time in the package's own modules):

{as_table(("package", "ms"), [(name, f"{ms:.0f}") for name, ms in import_costs()])}
"""
    print(text)
    write_section("cold start", text)


def start_once(engine: str) -> Start:
    """Start a worker on a new ledger with a filled queue; stop it after its first grade."""
    with running_servers(["valkey"]) as stack, tempfile.TemporaryDirectory() as scratch:
        ledger, log = Path(scratch) / "ledger.db", Path(scratch) / "worker.log"
        env = {
            "FUNDUS_DATABASE_URL": f"sqlite:///{ledger}",
            "FUNDUS_BROKER_URL": stack.broker_url or "",
            "FUNDUS_STORAGE_URL": Path(scratch).as_uri(),
            "FUNDUS_ENGINE": engine,
        }
        fundus("db", "upgrade", env=env)
        fundus("enqueue", str(SAMPLES), "--run", "cold", env=env)
        started = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen([FUNDUS, "worker"], env={**os.environ, **env}, stdout=out, stderr=out)
        try:
            return wait_for_grade(process, log, ledger, started)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_for_grade(process: subprocess.Popen[bytes], log: Path, ledger: Path, started: float) -> Start:
    """Wait until the worker is ready and has graded an image. Raises TimeoutError with the worker's log."""
    ready = 0.0
    database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    while time.monotonic() < started + GRADED_TIMEOUT_S and process.poll() is None:
        if not ready and "model_id=" in log.read_text():
            ready = time.monotonic() - started
        if database.execute("SELECT 1 FROM gradings WHERE status = 'graded' LIMIT 1").fetchone():
            database.close()
            spent = psutil.Process(process.pid).cpu_times()
            return Start(ready, time.monotonic() - started, spent.user + spent.system)
        time.sleep(0.02)
    raise TimeoutError(log.read_text())


def import_costs() -> list[tuple[str, float]]:
    """Return the packages with the longest import times, milliseconds in their own modules."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {WORKER_MODULES}"],
        capture_output=True,
        text=True,
        check=True,
    )
    costs: dict[str, float] = defaultdict(float)
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            costs[name.strip().partition(".")[0]] += int(own) / 1000
    return sorted(costs.items(), key=lambda cost: -cost[1])[:MAX_PACKAGES]


if __name__ == "__main__":
    main()
