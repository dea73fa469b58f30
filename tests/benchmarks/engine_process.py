"""Run one engine in a separate process: load it, warm it up, and time batches on request.

In one process, frameworks would share thread pools, memory and environment variables.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.model import MODEL
from worker.model.bundle.bundle import Bundle, load_bundle

EngineOutput = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Probabilities (N, 5), and saliency (N, h, w) with maximum 1; None for engines without explanation."""
LoadEngine = Callable[[Bundle, NDArray[np.uint8]], Callable[[], EngineOutput]]
"""Load a model and one batch, uint8 (N, S, S, 3); return the function to time, with its input already converted."""

WARM_UP_BATCHES = 3


@dataclass(frozen=True)
class EngineSpec:
    """An engine to measure. load: `module:function` of type LoadEngine. packages: those whose versions are reported."""

    name: str
    load: str
    explains: bool
    packages: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


class EngineProcess:
    """The parent's side of one engine process."""

    def __init__(self, spec: EngineSpec, pictures: NDArray[np.uint8]) -> None:
        """Start the process and wait until the engine is warm, or `unavailable_reason` is set."""
        self.spec = spec
        context = get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_connection, spec, pictures), daemon=True)
        self._process.start()
        child_connection.close()
        self.unavailable_reason: str | None
        self.output: EngineOutput | None
        self.batch_s: float
        self.unavailable_reason, self.output, self.batch_s = self._receive()

    def run(self, batches: int) -> tuple[float, float]:
        """Run a number of batches in sequence. Returns wall-clock seconds and CPU seconds."""
        self._connection.send(batches)
        wall_s, cpu_s = self._connection.recv()
        return float(wall_s), float(cpu_s)

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self) -> tuple[str | None, EngineOutput | None, float]:
        try:
            unavailable_reason, output, batch_s = self._connection.recv()
        except EOFError:
            self._process.join(10)
            return f"its process exited with status {self._process.exitcode}", None, 0.0
        return unavailable_reason, output, batch_s


def versions_of(packages: tuple[str, ...]) -> str:
    """Names and versions of packages, for the report."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)


def _serve(connection: Connection, spec: EngineSpec, pictures: NDArray[np.uint8]) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", **dict(spec.environment)}
    module, _, function = spec.load.partition(":")
    try:
        load: LoadEngine = getattr(import_module(module), function)
        run = load(load_bundle(MODEL), pictures)
        for _ in range(WARM_UP_BATCHES):
            started = time.perf_counter()
            output = run()
            batch_s = time.perf_counter() - started
    except Exception as error:  # noqa: BLE001 - the table reports why a peer is missing
        connection.send((f"{type(error).__name__}: {error}".splitlines()[0][:200], None, 0.0))
        return
    connection.send((None, output, batch_s))
    while (batches := _next_request(connection)) is not None:
        started, cpu_started = time.perf_counter(), time.process_time()
        for _ in range(batches):
            run()
        connection.send((time.perf_counter() - started, time.process_time() - cpu_started))


def _next_request(connection: Connection) -> int | None:
    try:
        return int(connection.recv())
    except EOFError:
        return None
