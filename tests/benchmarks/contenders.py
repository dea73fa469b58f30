"""Those that do the whole job: our worker and its peers, each started once, warm, and then asked for rounds."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import psycopg

from tests.benchmarks.sending import Producer
from tests.integration.processes import worker

DONE_WITHIN_S = 300
POLL_S = 0.02

Round = Callable[[int], float]
"""Takes a number of images; seconds from the first message to the last committed row."""


@contextmanager
def our_worker(uris: Sequence[str], log: Path) -> Iterator[Round]:
    """`fundus worker` with default settings. Each round is a run of its own."""
    producer = Producer()
    with worker({"FUNDUS_LOG_LEVEL": "info"}, log):
        yield lambda count: producer.grade(uris[:count])


@contextmanager
def celery_peer(name: str, keys: Sequence[str], log: Path) -> Iterator[Round]:
    """A worker of `tests.benchmarks.peers.NAME` with a process per core, as Celery does by default."""
    module = import_module(f"tests.benchmarks.peers.{name}")
    celery = ["-A", module.__name__, "worker", "--concurrency", str(os.cpu_count()), "--loglevel", "INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *celery, "--without-gossip", "--without-mingle", "-n", f"{name}@%h"],
            stdout=out,
            stderr=out,
        )
    database = psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True)
    done = "SELECT count(*) FROM peer_results WHERE peer = %s"

    def rows() -> int:
        found = database.execute(done, (name,)).fetchone()
        assert found is not None
        return int(found[0])

    def work(count: int) -> float:
        before, began = rows(), time.perf_counter()
        if hasattr(module, "BATCH"):
            for start in range(0, count, module.BATCH):
                module.grade_batch.delay(list(keys[start : min(start + module.BATCH, count)]))
        else:
            for key in keys[:count]:
                module.grade.delay(key)
        while rows() < before + count:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.perf_counter() - began < DONE_WITHIN_S, log.read_text()[-2000:]
            time.sleep(POLL_S)
        return time.perf_counter() - began

    try:
        yield work
    finally:
        process.terminate()
        process.wait(60)
        database.close()


@contextmanager
def ray_peer(keys: Sequence[str], log: Path) -> Iterator[Round]:
    """`tests.benchmarks.peers.ray_data`, asked line by line."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.peers.ray_data"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={**os.environ, "BENCH_KEYS": ",".join(keys), "RAY_AUTH_MODE": "disabled"},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout
    assert answers.readline() == "ready\n", log.read_text()[-2000:]

    def work(count: int) -> float:
        requests.write(f"{count}\n")
        requests.flush()
        answer = answers.readline()
        assert answer, log.read_text()[-2000:]
        return float(answer)

    try:
        yield work
    finally:
        requests.close()
        process.wait(60)
