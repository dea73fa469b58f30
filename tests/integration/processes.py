"""Start real `fundus` processes in end-to-end tests."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worker.core.settings import parse_settings
from worker.core.vocabulary import RunState
from worker.ledger.database import connect
from worker.ledger.status import describe_progress, read_progress

FUNDUS = Path(sys.executable).with_name("fundus")
READY = re.compile(r"model_id(=|\": )")
"""Matches the log line of a ready worker, in text or JSON format."""
READY_WITHIN_S = 120
DRAINED_WITHIN_S = 60


def fundus(
    *arguments: str, env: Mapping[str, str], check: bool = True, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one `fundus` command with `given` as its standard input; assert exit status 0 unless `check` is false."""
    done = subprocess.run(
        [FUNDUS, *arguments],
        env={**os.environ, **env},
        input=given,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"fundus {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def fundus_json(*arguments: str, env: Mapping[str, str]) -> Any:
    """Run a command with `--json`; return the object in its last line of output."""
    return json.loads(fundus(*arguments, "--json", env=env).stdout.splitlines()[-1])


@contextmanager
def worker(env: Mapping[str, str], log: Path, *command: str, exits_with: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker and wait until it is ready; stop it with SIGTERM at the end and check its exit status."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command or (FUNDUS, "worker"), env={**os.environ, **env}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait_for(lambda: READY.search(log.read_text()), process, log)
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(DRAINED_WITHIN_S) == exits_with, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_finished(run: str, env: Mapping[str, str], *, within_s: float = 180) -> Any:
    """Wait until a run is finished; return the object that `fundus status` prints.

    It is read in this process: a command for each look at the ledger would take a core from the worker.
    """
    engine = connect(parse_settings(database_url=env["FUNDUS_DATABASE_URL"]))
    deadline = time.monotonic() + within_s
    try:
        while (progress := read_progress(engine, run)).run.state != RunState.FINISHED:
            assert time.monotonic() < deadline, describe_progress(progress)
            time.sleep(0.1)
    finally:
        engine.dispose()
    return describe_progress(progress)


def _wait_for(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready():
        assert process.poll() is None, f"the worker ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"the worker is not ready after {READY_WITHIN_S} s:\n{log.read_text()}"
        time.sleep(0.1)
