"""Start real `fundus` processes in end-to-end tests."""

import atexit
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.integration import command_forker
from tests.integration.command_forker import SLOW_IMPORTS, STREAMS
from worker.core.settings import parse_settings
from worker.core.vocabulary import RunState
from worker.ledger.database import connect
from worker.ledger.status import describe_progress, read_progress

FUNDUS = Path(sys.executable).with_name("fundus")
READY = re.compile(r"model_id(=|\": )")
"""Matches the log line of a ready worker, in text or JSON format."""
READY_WITHIN_S = 120.0
COMMAND_WITHIN_S = 180
DRAINED_WITHIN_S = 60


def fundus(
    *arguments: str, env: Mapping[str, str], check: bool = True, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one `fundus` command with `given` as its standard input; assert exit status 0 unless `check` is false.

    Its process is a fork of one that has imported the commands, except for those of SLOW_IMPORTS.
    """
    start = _run_program if {*arguments[:1]} & {*SLOW_IMPORTS} else _run_fork
    done = start(arguments, {**os.environ, **env}, given)
    if check:
        assert done.returncode == 0, f"fundus {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _run_program(
    arguments: tuple[str, ...], env: Mapping[str, str], given: str | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FUNDUS, *arguments],
        env=env,
        input=given,
        capture_output=True,
        text=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
    )


def _run_fork(
    arguments: tuple[str, ...], env: Mapping[str, str], given: str | None
) -> subprocess.CompletedProcess[str]:
    request = {"arguments": arguments, "environment": dict(env), "folder": str(Path.cwd())}
    with ExitStack() as files:
        streams = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(STREAMS)]
        streams[0].write(given or "")
        streams[0].seek(0)
        ours, theirs = os.pipe()
        reply = files.enter_context(os.fdopen(ours))
        with os.fdopen(theirs, "w"):
            socket.send_fds(_command_forker(), [json.dumps(request).encode()], [*(s.fileno() for s in streams), theirs])
        process = int(reply.readline())
        if not select.select([reply], [], [], COMMAND_WITHIN_S)[0]:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired(["fundus", *arguments], COMMAND_WITHIN_S)
        status = int(reply.readline())
        for stream in streams:
            stream.seek(0)
        return subprocess.CompletedProcess(["fundus", *arguments], status, streams[1].read(), streams[2].read())


@cache
def _command_forker() -> socket.socket:
    """Start the forker of this pytest process; return the socket that takes its requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, command_forker.__file__], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
        )

    def stop() -> None:
        ours.close()
        process.wait(10)

    atexit.register(stop)
    return ours


def fundus_json(*arguments: str, env: Mapping[str, str]) -> Any:
    """Run a command with `--json`; return the object in its last line of output."""
    return json.loads(fundus(*arguments, "--json", env=env).stdout.splitlines()[-1])


@contextmanager
def worker(
    env: Mapping[str, str], log: Path, *command: str, exits_with: int = 0, ready_within_s: float = READY_WITHIN_S
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker and wait until it is ready; stop it with SIGTERM at the end and check its exit status."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command or (FUNDUS, "worker"), env={**os.environ, **env}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for(lambda: READY.search(log.read_text()), process, log, ready_within_s)
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


def wait_for(ready: Callable[[], object], process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    """Wait until a worker, with this log, is ready; fail if it ends before."""
    deadline = time.monotonic() + within_s
    while not ready():
        assert process.poll() is None, f"the worker ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"the worker is not ready after {within_s} s:\n{log.read_text()}"
        time.sleep(0.1)
