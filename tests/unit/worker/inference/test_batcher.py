"""Batches are full or late, in order, and one image's fault stays its own."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from worker.core.errors import AcceleratorMemoryError, ModelError
from worker.core.predictions import Prediction
from worker.inference.batcher import Batcher


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


class Recorder:
    """An engine that answers each picture with its own value and remembers the batches it saw."""

    def __init__(self, *, capacity: int = 1000, poison: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.capacity = capacity
        self.poison = poison
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: Sequence[np.ndarray]) -> list[Prediction]:
        self.gate.wait(10)
        values = [int(image[0, 0, 0]) for image in batch]
        self.batches.append(values)
        if len(values) > self.capacity:
            raise AcceleratorMemoryError(f"{len(values)} images do not fit")
        if self.poison in values:
            raise ModelError("output is not finite")
        return [Prediction(np.full(5, v / 255, np.float32), np.zeros((7, 7), np.float32)) for v in values]


def waiting_batcher(
    engine: Callable[[Sequence[np.ndarray]], list[Prediction]], *, size: int, wait_ms: float
) -> Batcher:
    """A batcher that expects more images than any test sends, so that only size and time end its wait."""
    batcher = Batcher(engine, max_batch_size=size, max_wait_ms=wait_ms)
    batcher.announce(1000)
    return batcher


def value_of(prediction: Prediction) -> int:
    return round(float(prediction.probabilities[0]) * 255)


def test_full_batch_leaves_before_its_wait_is_over() -> None:
    engine = Recorder()
    batcher = waiting_batcher(engine, size=4, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(4)]
    assert [value_of(f.result(5)) for f in futures] == [0, 1, 2, 3]
    assert engine.batches == [[0, 1, 2, 3]]
    batcher.close()


def test_lonely_image_leaves_after_its_wait() -> None:
    engine = Recorder()
    batcher = waiting_batcher(engine, size=4, wait_ms=50)
    start = time.monotonic()
    assert value_of(batcher.submit(picture(7)).result(5)) == 7
    assert time.monotonic() - start >= 0.05
    batcher.close()


def test_batch_leaves_at_once_when_no_more_images_are_on_their_way() -> None:
    engine = Recorder()
    batcher = Batcher(engine, max_batch_size=4, max_wait_ms=60_000)
    batcher.announce(3)
    futures = [batcher.submit(picture(v)) for v in (1, 2)]
    with pytest.raises(TimeoutError):
        futures[0].result(0.1)
    batcher.withdraw()
    assert [value_of(f.result(5)) for f in futures] == [1, 2]
    assert engine.batches == [[1, 2]]
    batcher.close()


def test_lonely_urgent_image_waits_for_20_ms() -> None:
    batcher = waiting_batcher(Recorder(), size=8, wait_ms=60_000)
    start = time.monotonic()
    assert value_of(batcher.submit(picture(7), urgent=True).result(5)) == 7
    assert time.monotonic() - start >= 0.02
    batcher.close()


def test_waiting_images_share_batches_in_order_of_arrival() -> None:
    engine = Recorder()
    engine.gate.clear()
    batcher = waiting_batcher(engine, size=3, wait_ms=0)
    first = batcher.submit(picture(0))
    time.sleep(0.05)
    rest = [batcher.submit(picture(v)) for v in range(1, 8)]
    engine.gate.set()
    assert [value_of(f.result(5)) for f in [first, *rest]] == list(range(8))
    assert engine.batches == [[0], [1, 2, 3], [4, 5, 6], [7]]
    batcher.close()


def test_batch_that_does_not_fit_is_halved_and_stays_halved() -> None:
    engine = Recorder(capacity=2)
    batcher = waiting_batcher(engine, size=8, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(8)]
    assert [value_of(f.result(5)) for f in futures] == list(range(8))
    assert [len(b) for b in engine.batches] == [8, 4, 2, 2, 4, 2, 2]
    engine.batches.clear()
    again = [batcher.submit(picture(v)) for v in range(4)]
    assert [value_of(f.result(5)) for f in again] == [0, 1, 2, 3]
    assert [len(b) for b in engine.batches] == [2, 2]
    batcher.close()


def test_image_that_fits_nowhere_fails_alone() -> None:
    batcher = waiting_batcher(Recorder(capacity=0), size=2, wait_ms=0)
    with pytest.raises(AcceleratorMemoryError):
        batcher.submit(picture(0)).result(5)
    batcher.close()


def test_image_that_breaks_the_model_costs_itself_alone() -> None:
    batcher = waiting_batcher(Recorder(poison=5), size=8, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(8)]
    failures = [v for v, f in enumerate(futures) if f.exception(5) is not None]
    assert failures == [5]
    assert isinstance(futures[5].exception(), ModelError)
    assert [value_of(f.result()) for v, f in enumerate(futures) if v != 5] == [0, 1, 2, 3, 4, 6, 7]
    batcher.close()


def test_unknown_error_reaches_everyone_who_waits() -> None:
    def broken(batch: Sequence[np.ndarray]) -> list[Prediction]:
        raise ZeroDivisionError

    batcher = waiting_batcher(broken, size=2, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(2)]
    assert [type(f.exception(5)) for f in futures] == [ZeroDivisionError, ZeroDivisionError]
    batcher.close()


def test_close_finishes_what_waits_and_refuses_more() -> None:
    engine = Recorder()
    batcher = waiting_batcher(engine, size=100, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(5)]
    batcher.close()
    assert [value_of(f.result(0)) for f in futures] == list(range(5))
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(picture(0))


def test_cancelled_image_is_left_out() -> None:
    engine = Recorder()
    batcher = waiting_batcher(engine, size=3, wait_ms=60_000)
    futures = [batcher.submit(picture(v)) for v in range(2)]
    assert futures[0].cancel()
    futures.append(batcher.submit(picture(2)))
    assert value_of(futures[2].result(5)) == 2
    assert engine.batches == [[1, 2]]
    batcher.close()


def test_urgent_image_is_in_the_next_batch_which_is_short() -> None:
    engine = Recorder()
    engine.gate.clear()
    batcher = waiting_batcher(engine, size=8, wait_ms=60_000)
    first = [batcher.submit(picture(v)) for v in range(8)]
    while batcher_has_not_taken(first):
        time.sleep(0.001)
    rest = [batcher.submit(picture(v)) for v in range(8, 17)]
    live = batcher.submit(picture(99), urgent=True)
    engine.gate.set()
    assert value_of(live.result(5)) == 99
    for future in (*first, *rest):
        future.result(5)
    assert engine.batches == [[0, 1, 2, 3, 4, 5, 6, 7], [99, 8], [9, 10, 11, 12, 13, 14, 15, 16]]
    batcher.close()


def test_urgent_images_that_are_many_share_one_batch() -> None:
    engine = Recorder()
    engine.gate.clear()
    batcher = waiting_batcher(engine, size=8, wait_ms=60_000)
    first = [batcher.submit(picture(v)) for v in range(8)]
    while batcher_has_not_taken(first):
        time.sleep(0.001)
    live = [batcher.submit(picture(v), urgent=True) for v in (20, 21, 22)]
    engine.gate.set()
    assert [value_of(future.result(5)) for future in live] == [20, 21, 22]
    assert engine.batches[1:] == [[20, 21, 22]]
    batcher.close()


def batcher_has_not_taken(futures: list[Future[Prediction]]) -> bool:
    return not all(future.running() for future in futures)
