"""Count what a worker does; Prometheus asks the worker itself, where it is given a port.

Labels hold words of the vocabulary, error codes and stages only, never a run, image or person.
"""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from worker.core.errors import UsageError
from worker.core.vocabulary import Grade, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from worker.core.errors import ServiceError
    from worker.core.predictions import Outcome
    from worker.ledger.leases import LeasedImage
    from worker.maintenance.reconciler import Reconciled

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_ATTEMPT_LABEL = 3
OUTCOMES = (Status.GRADED, Status.UNGRADABLE, Status.FAILED)
"""What a chunk can settle an image as; the reconciler quarantines."""

T = TypeVar("T")
R = TypeVar("R")


class Stage(StrEnum):
    """Where time goes: `LEASE` and `SETTLE` are of a chunk, the others of an image."""

    LEASE = "lease"
    FETCH = "fetch"
    PREPARE = "prepare"
    """Decoding, field, gradability and enhancement, in a decoding process."""
    WAIT = "wait"
    """Until its batch leaves."""
    INFER = "infer"
    DRAW = "draw"
    UPLOAD = "upload"
    SETTLE = "settle"


class Metrics:
    """What has happened since the worker's start; may be told by many threads at once."""

    def __init__(
        self, chunks_in_flight: Callable[[], int], trace: Callable[[str, float, float], object] = lambda *_: None
    ) -> None:
        """`trace` hears of each stage: its name, and when it began and ended by the monotonic clock."""
        self._trace = trace
        self._registry = registry = CollectorRegistry()
        ProcessCollector(namespace="fundus_worker", registry=registry)
        images = Counter("fundus_worker_images", "Outcomes written.", ["status"], registry=registry)
        grades = Counter("fundus_worker_graded_images", "Graded images.", ["grade"], registry=registry)
        stages = Histogram(
            "fundus_worker_stage_seconds", "Time in a stage.", ["stage"], buckets=SECONDS_BUCKETS, registry=registry
        )
        # What can happen is told as 0 before it does: a rate needs a value to start from.
        self._images = {status: images.labels(str(status)) for status in OUTCOMES}
        self._grades = {grade: grades.labels(str(int(grade))) for grade in Grade}
        self._stages = {stage: stages.labels(str(stage)) for stage in Stage}
        self._errors = Counter(
            "fundus_worker_errors", "Images without a grade, by code.", ["status", "code"], registry=registry
        )
        self._released = Counter(
            "fundus_worker_released_images", "Images that a service failed, by code.", ["code"], registry=registry
        )
        self._attempts = Counter(
            "fundus_worker_attempts", "Images begun; `3`: for the third time or later.", ["attempt"], registry=registry
        )
        self._lost = Counter(
            "fundus_worker_lost_images", "Outcomes not written, since the lease was lost.", registry=registry
        )
        self._reconciled = Counter(
            "fundus_worker_reconciled", "Images that this worker reconciled.", ["action"], registry=registry
        )
        self.fetched_bytes = Counter("fundus_worker_fetched_bytes", "Photographs as received.", registry=registry)
        self.uploaded_bytes = Counter("fundus_worker_uploaded_bytes", "Overlays as sent.", registry=registry)
        self._batch = Histogram(
            "fundus_worker_batch_images", "Images in a forward pass.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._busy = Counter("fundus_worker_engine_busy_seconds", "Time in forward passes.", registry=registry)
        Gauge("fundus_worker_chunks_in_flight", "Chunks being graded.", registry=registry).set_function(
            chunks_in_flight
        )

    @contextmanager
    def time_stage(self, stage: Stage) -> Iterator[None]:
        """Time what is done within, also when it fails."""
        began = monotonic()
        try:
            yield
        finally:
            self.record_stage(stage, began, monotonic())

    def record_stage(self, stage: Stage, began: float, ended: float) -> None:
        """A stage took the time between these two, by the monotonic clock."""
        self._stages[stage].observe(ended - began)
        self._trace(stage, began, ended)

    def count_leased(self, images: Collection[LeasedImage]) -> None:
        """These are begun."""
        for image in images:
            self._attempts.labels(str(min(image.attempts, MAX_ATTEMPT_LABEL))).inc()

    def count_settled(self, outcomes: Sequence[Outcome], released: Collection[ServiceError]) -> None:
        """These were written into the ledger."""
        for outcome in outcomes:
            self._images[outcome.status].inc()
            if outcome.decision is not None:
                self._grades[outcome.decision.grade].inc()
            if outcome.error_code is not None:
                self._errors.labels(str(outcome.status), outcome.error_code).inc()
        for error in released:
            self._released.labels(error.code).inc()

    def settled_by_status(self) -> dict[Status, int]:
        """What was written into the ledger since the worker's start."""
        name = "fundus_worker_images_total"
        return {status: int(self._registry.get_sample_value(name, {"status": str(status)}) or 0) for status in OUTCOMES}

    def count_lost(self, images: int) -> None:
        """The ledger did not want the outcomes of so many."""
        self._lost.inc(images)

    def count_reconciled(self, done: Reconciled | None) -> None:
        """What a pass of the reconciler did, if it was this worker's turn."""
        if done is not None:
            for action in ("quarantined", "cancelled", "sent_alone", "sent_again"):
                self._reconciled.labels(action).inc(getattr(done, action))

    def instrument_predict(self, predict: Callable[[Sequence[T]], R]) -> Callable[[Sequence[T]], R]:
        """`predict`, with its batches counted and its time added up."""

        def timed_predict(batch: Sequence[T]) -> R:
            self._batch.observe(len(batch))
            began = monotonic()
            try:
                return predict(batch)
            finally:
                self._busy.inc(monotonic() - began)

        return timed_predict

    def serve(self, host: str, port: int | None) -> Callable[[], None]:
        """Answer Prometheus from now on, if there is a port; returns what ends it. Raises UsageError if it is taken."""
        if port is None:
            return lambda: None
        try:
            server, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"FUNDUS_METRICS_PORT: cannot listen on {host}:{port}: {reason}") from error

        def close() -> None:
            server.shutdown()
            server.server_close()

        return close
