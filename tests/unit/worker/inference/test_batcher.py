"""Batches are dispatched when full or due, in order; a failing image does not affect the others."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from tests.services.process import HUNG_AFTER_S
from worker.core.errors import AcceleratorMemoryError, ModelError
from worker.core.predictions import Prediction
from worker.inference.batcher import Batcher


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


class RecordingEngine:
    """Engine that encodes the value of each image in its prediction and records the batches."""

    def __init__(self, *, capacity: int = 1000, poison: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.capacity = capacity
        self.poison = poison
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: Sequence[np.ndarray]) -> list[Prediction]:
        self.gate.wait(HUNG_AFTER_S)
        values = [int(image[0, 0, 0]) for image in batch]
        self.batches.append(values)
        if len(values) > self.capacity:
            raise AcceleratorMemoryError(f"{len(values)} images do not fit")
        if self.poison in values:
            raise ModelError("output is not finite")
        return [Prediction(np.full(5, v / 255, np.float32), np.zeros((7, 7), np.float32)) for v in values]


def make_batcher(engine: Callable[[Sequence[np.ndarray]], list[Prediction]], *, size: int, wait_ms: float) -> Batcher:
    """Return a batcher with 1000 announced images, so that only batch size and time dispatch a batch."""
    batcher = Batcher(engine, max_batch_size=size, max_wait_ms=wait_ms)
    batcher.announce(1000)
    return batcher


def value_of(prediction: Prediction) -> int:
    return round(float(prediction.probabilities[0]) * 255)


def test_full_batch_is_dispatched_at_once() -> None:
    engine = RecordingEngine()
    batcher = make_batcher(engine, size=4, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(4)]
    assert [value_of(f.result(HUNG_AFTER_S)) for f in futures] == [0, 1, 2, 3]
    assert engine.batches == [[0, 1, 2, 3]]
    batcher.close()


def test_single_image_is_dispatched_after_max_wait() -> None:
    engine = RecordingEngine()
    batcher = make_batcher(engine, size=4, wait_ms=50)
    start = time.monotonic()
    assert value_of(batcher.submit(image(7)).result(HUNG_AFTER_S)) == 7
    assert time.monotonic() - start >= 0.05
    batcher.close()


def test_batch_is_dispatched_when_no_announced_image_is_outstanding() -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, max_batch_size=4, max_wait_ms=60_000)
    batcher.announce(3)
    futures = [batcher.submit(image(v)) for v in (1, 2)]
    with pytest.raises(TimeoutError):
        futures[0].result(0.1)
    batcher.withdraw()
    assert [value_of(f.result(HUNG_AFTER_S)) for f in futures] == [1, 2]
    assert engine.batches == [[1, 2]]
    batcher.close()


def test_single_urgent_image_waits_for_20_ms() -> None:
    batcher = make_batcher(RecordingEngine(), size=8, wait_ms=60_000)
    start = time.monotonic()
    assert value_of(batcher.submit(image(7), urgent=True).result(HUNG_AFTER_S)) == 7
    assert time.monotonic() - start >= 0.02
    batcher.close()


def test_queued_images_are_batched_in_order_of_arrival() -> None:
    engine = RecordingEngine()
    engine.gate.clear()
    batcher = make_batcher(engine, size=3, wait_ms=0)
    first = batcher.submit(image(0))
    while not_all_dispatched([first]):
        time.sleep(0.001)
    rest = [batcher.submit(image(v)) for v in range(1, 8)]
    engine.gate.set()
    assert [value_of(f.result(HUNG_AFTER_S)) for f in [first, *rest]] == list(range(8))
    assert engine.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    batcher.close()


def test_batch_that_does_not_fit_is_halved_and_stays_halved() -> None:
    engine = RecordingEngine(capacity=2)
    batcher = make_batcher(engine, size=8, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(8)]
    assert [value_of(f.result(HUNG_AFTER_S)) for f in futures] == list(range(8))
    assert [len(b) for b in engine.batches] == [8, 4, 2, 2, 4, 2, 2]
    engine.batches.clear()
    again = [batcher.submit(image(v)) for v in range(4)]
    assert [value_of(f.result(HUNG_AFTER_S)) for f in again] == [0, 1, 2, 3]
    assert [len(b) for b in engine.batches] == [2, 2]
    batcher.close()


def test_single_image_that_exceeds_memory_fails() -> None:
    batcher = make_batcher(RecordingEngine(capacity=0), size=2, wait_ms=0)
    with pytest.raises(AcceleratorMemoryError):
        batcher.submit(image(0)).result(HUNG_AFTER_S)
    batcher.close()


def test_only_the_image_that_breaks_the_model_fails() -> None:
    batcher = make_batcher(RecordingEngine(poison=5), size=8, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(8)]
    failures = [v for v, f in enumerate(futures) if f.exception(5) is not None]
    assert failures == [5]
    assert isinstance(futures[5].exception(), ModelError)
    assert [value_of(f.result()) for v, f in enumerate(futures) if v != 5] == [0, 1, 2, 3, 4, 6, 7]
    batcher.close()


def test_unexpected_error_fails_the_whole_batch() -> None:
    def broken(batch: Sequence[np.ndarray]) -> list[Prediction]:
        raise ZeroDivisionError

    batcher = make_batcher(broken, size=2, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(2)]
    assert [type(f.exception(5)) for f in futures] == [ZeroDivisionError, ZeroDivisionError]
    batcher.close()


def test_close_predicts_queued_images_and_rejects_new_ones() -> None:
    engine = RecordingEngine()
    batcher = make_batcher(engine, size=100, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(5)]
    batcher.close()
    assert [value_of(f.result(0)) for f in futures] == list(range(5))
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(image(0))


def test_cancelled_image_is_not_predicted() -> None:
    engine = RecordingEngine()
    batcher = make_batcher(engine, size=3, wait_ms=60_000)
    futures = [batcher.submit(image(v)) for v in range(2)]
    assert futures[0].cancel()
    futures.append(batcher.submit(image(2)))
    assert value_of(futures[2].result(HUNG_AFTER_S)) == 2
    assert engine.batches == [[1, 2]]
    batcher.close()


def test_urgent_image_is_in_the_next_batch_which_is_smaller() -> None:
    engine = RecordingEngine()
    engine.gate.clear()
    batcher = make_batcher(engine, size=8, wait_ms=60_000)
    first = [batcher.submit(image(v)) for v in range(8)]
    while not_all_dispatched(first):
        time.sleep(0.001)
    rest = [batcher.submit(image(v)) for v in range(8, 17)]
    live = batcher.submit(image(99), urgent=True)
    engine.gate.set()
    assert value_of(live.result(HUNG_AFTER_S)) == 99
    for future in (*first, *rest):
        future.result(HUNG_AFTER_S)
    assert engine.batches == [[0, 1, 2, 3, 4, 5, 6, 7], [99, 8], [9, 10, 11, 12, 13, 14, 15, 16]]
    batcher.close()


def test_several_urgent_images_share_one_batch() -> None:
    engine = RecordingEngine()
    engine.gate.clear()
    batcher = make_batcher(engine, size=8, wait_ms=60_000)
    first = [batcher.submit(image(v)) for v in range(8)]
    while not_all_dispatched(first):
        time.sleep(0.001)
    live = [batcher.submit(image(v), urgent=True) for v in (20, 21, 22)]
    engine.gate.set()
    assert [value_of(future.result(HUNG_AFTER_S)) for future in live] == [20, 21, 22]
    assert engine.batches[1:] == [[20, 21, 22]]
    batcher.close()


def not_all_dispatched(futures: list[Future[Prediction]]) -> bool:
    return not all(future.running() for future in futures)
