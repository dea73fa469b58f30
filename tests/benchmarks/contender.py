"""One engine in a process of its own: loaded and warm, it runs so many batches when it is told to.

Frameworks in one process would share thread pools, memory and environment; in processes they share the machine alone.
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

Answer = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Probabilities (N, 5) and, from those that explain, saliency (N, h, w) with its maximum at 1."""
Load = Callable[[Bundle, NDArray[np.uint8]], Callable[[], Answer]]
"""Model and one batch, uint8 (N, S, S, 3), in; out comes what is timed. Its input waits in the form it likes best."""

WARM_UPS = 3


@dataclass(frozen=True)
class Entry:
    """A contender by name: `load` is `module:function`, `packages` are those whose versions matter."""

    name: str
    load: str
    explains: bool
    packages: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


class Contender:
    """The parent's end of one process."""

    def __init__(self, entry: Entry, pictures: NDArray[np.uint8]) -> None:
        """Returns once it is warm; `refusal` then says why it cannot run here, or is None."""
        self.entry = entry
        context = get_context("spawn")
        self._wire, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, entry, pictures), daemon=True)
        self._process.start()
        theirs.close()
        self.refusal: str | None
        self.answer: Answer | None
        self.batch_s: float
        self.refusal, self.answer, self.batch_s = self._receive()

    def run(self, batches: int) -> tuple[float, float]:
        """Seconds that so many batches take, one after the other, and the seconds of processor time they cost."""
        self._wire.send(batches)
        wall_s, processor_s = self._wire.recv()
        return float(wall_s), float(processor_s)

    def close(self) -> None:
        """End the process."""
        self._wire.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self) -> tuple[str | None, Answer | None, float]:
        try:
            refusal, answer, batch_s = self._wire.recv()
        except EOFError:
            self._process.join(10)
            return f"its process ended with status {self._process.exitcode}", None, 0.0
        return refusal, answer, batch_s


def versions_of(packages: tuple[str, ...]) -> str:
    """Names and versions of those that are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)


def _serve(wire: Connection, entry: Entry, pictures: NDArray[np.uint8]) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", **dict(entry.environment)}
    module, _, function = entry.load.partition(":")
    try:
        load: Load = getattr(import_module(module), function)
        run = load(load_bundle(MODEL), pictures)
        for _ in range(WARM_UPS):
            began = time.perf_counter()
            answer = run()
            batch_s = time.perf_counter() - began
    except Exception as error:  # noqa: BLE001 - the table says why a peer is missing
        wire.send((f"{type(error).__name__}: {error}".splitlines()[0][:200], None, 0.0))
        return
    wire.send((None, answer, batch_s))
    while (batches := _next_order(wire)) is not None:
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(batches):
            run()
        wire.send((time.perf_counter() - began, time.process_time() - spent))


def _next_order(wire: Connection) -> int | None:
    try:
        return int(wire.recv())
    except EOFError:
        return None
