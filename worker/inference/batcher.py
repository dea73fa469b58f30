"""Dynamic batching: images of all chunks in flight share forward passes."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING

from worker.core.errors import AcceleratorMemoryError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.core.predictions import Enhanced, Prediction

    _Waiting = tuple[Enhanced, "PendingPrediction"]

URGENT_WAIT_S = 0.02
"""A batch with urgent images leaves after this, full or not."""
URGENT_SHARE = 4
"""A batch with urgent images is full at a quarter: 4 of 16 images cost 5% more each, and take a quarter of the time."""


class PendingPrediction(Future["Prediction"]):
    """A prediction to come, with the moments, by the monotonic clock, at which its image came and its batch left."""

    def __init__(self) -> None:
        super().__init__()
        self.enqueued_at = monotonic()
        self.dispatched_at = self.enqueued_at


class Batcher:
    """One thread that owns the engine.

    A batch leaves when it is full, when no more images are on their way, or when its first image has waited enough.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Enhanced]], Sequence[Prediction]],
        *,
        max_batch_size: int,
        max_wait_ms: float,
    ) -> None:
        self._predict = predict
        self._max_batch_size = max_batch_size
        self._max_wait_s = max_wait_ms / 1000
        self._urgent: deque[_Waiting] = deque()
        self._others: deque[_Waiting] = deque()
        self._on_their_way = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
        self._thread.start()

    def announce(self, images: int) -> None:
        """So many images are on their way: each will be submitted or missed."""
        with self._changed:
            self._on_their_way += images

    def withdraw(self) -> None:
        """An expected image will not come."""
        with self._changed:
            self._on_their_way -= 1
            self._changed.notify()

    def submit(self, enhanced: Enhanced, *, urgent: bool = False) -> PendingPrediction:
        """The prediction of one expected image, in time; the urgent are in the next batch.

        Raises RuntimeError after `close`.
        """
        pending = PendingPrediction()
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._on_their_way -= 1
            (self._urgent if urgent else self._others).append((enhanced, pending))
            self._changed.notify()
        return pending

    def close(self) -> None:
        """Finish what was submitted, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._next_batch():
            live = [(enhanced, pending) for enhanced, pending in batch if pending.set_running_or_notify_cancel()]
            if live:
                now = monotonic()
                for _, pending in live:
                    pending.dispatched_at = now
                self._run(live)

    def _next_batch(self) -> list[_Waiting]:
        """Empty only when closed and drained."""
        with self._changed:
            while not self._count() and not self._closed:
                self._changed.wait()
            while 0 < self._count() < self._limit() and self._on_their_way > 0 and not self._closed:
                patience_s = self._deadline() - monotonic()
                if patience_s <= 0:
                    break
                self._changed.wait(patience_s)
            size = min(self._count(), self._limit())
            return [(self._urgent or self._others).popleft() for _ in range(size)]

    def _deadline(self) -> float:
        waits = ((self._urgent, URGENT_WAIT_S), (self._others, self._max_wait_s))
        return min(queue[0][1].enqueued_at + wait_s for queue, wait_s in waits if queue)

    def _limit(self) -> int:
        """A short batch for the urgent, who would wait for the whole of a full one."""
        if not self._urgent:
            return self._max_batch_size
        return min(self._max_batch_size, max(len(self._urgent), self._max_batch_size // URGENT_SHARE))

    def _count(self) -> int:
        return len(self._urgent) + len(self._others)

    def _run(self, batch: list[_Waiting]) -> None:
        try:
            predictions = self._predict([enhanced for enhanced, _ in batch])
        except (AcceleratorMemoryError, ModelError) as error:
            self._retry_halved(batch, error)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the image gets it
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), prediction in zip(batch, predictions, strict=True):
                future.set_result(prediction)

    def _retry_halved(self, batch: list[_Waiting], error: Exception) -> None:
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        middle = (len(batch) + 1) // 2
        if isinstance(error, AcceleratorMemoryError):
            # What did not fit once will not fit later: the device's memory does not grow.
            self._max_batch_size = min(self._max_batch_size, middle)
        self._run(batch[:middle])
        self._run(batch[middle:])
