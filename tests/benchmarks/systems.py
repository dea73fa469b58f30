"""Systems that grade photographs end to end: the worker and its peers, each started once and run in rounds."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import psycopg

from tests.benchmarks.producer_client import ProducerClient
from tests.integration.processes import worker

ROUND_TIMEOUT_S = 300
POLL_S = 0.02

GradeRound = Callable[[int], float]
"""Grade a number of images. Returns seconds from the first message to the last committed row."""


@contextmanager
def fundus_system(uris: Sequence[str], log: Path) -> Iterator[GradeRound]:
    """Start `fundus worker` with default settings; each round is a new run."""
    producer = ProducerClient()
    with worker({"FUNDUS_LOG_LEVEL": "info"}, log):
        yield lambda count: producer.grade(uris[:count])


@contextmanager
def celery_system(name: str, keys: Sequence[str], log: Path) -> Iterator[GradeRound]:
    """Start a Celery worker of `tests.benchmarks.peers.NAME` with one process per core, Celery's default."""
    module = import_module(f"tests.benchmarks.peers.{name}")
    celery = ["-A", module.__name__, "worker", "--concurrency", str(os.cpu_count()), "--loglevel", "INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *celery, "--without-gossip", "--without-mingle", "-n", f"{name}@%h"],
            stdout=out,
            stderr=out,
        )
    database = psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True)
    query = "SELECT count(*) FROM peer_results WHERE peer = %s"

    def count_rows() -> int:
        found = database.execute(query, (name,)).fetchone()
        assert found is not None
        return int(found[0])

    def grade_round(count: int) -> float:
        before, started = count_rows(), time.perf_counter()
        if hasattr(module, "BATCH"):
            for start in range(0, count, module.BATCH):
                module.grade_batch.delay(list(keys[start : min(start + module.BATCH, count)]))
        else:
            for key in keys[:count]:
                module.grade.delay(key)
        while count_rows() < before + count:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.perf_counter() - started < ROUND_TIMEOUT_S, log.read_text()[-2000:]
            time.sleep(POLL_S)
        return time.perf_counter() - started

    try:
        yield grade_round
    finally:
        process.terminate()
        process.wait(60)
        database.close()


@contextmanager
def ray_system(keys: Sequence[str], log: Path) -> Iterator[GradeRound]:
    """Start `tests.benchmarks.peers.ray_data`; requests and answers are lines on its standard streams."""
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

    def grade_round(count: int) -> float:
        requests.write(f"{count}\n")
        requests.flush()
        answer = answers.readline()
        assert answer, log.read_text()[-2000:]
        return float(answer)

    try:
        yield grade_round
    finally:
        requests.close()
        process.wait(60)
