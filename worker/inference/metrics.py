"""Prometheus metrics of one worker process, served over HTTP if a port is configured.

Label values are statuses, grades, stages and error codes only, never a run, an image or a person.
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
    from worker.maintenance.reconciler import ReconcileResult

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_ATTEMPT_LABEL = 3
OUTCOMES = (Status.GRADED, Status.UNGRADABLE, Status.FAILED)
"""Statuses that a chunk can settle an image with. `quarantined` and `cancelled` are set elsewhere."""

T = TypeVar("T")
R = TypeVar("R")


class Stage(StrEnum):
    """Timed stages: `LEASE` and `SETTLE` once per chunk, the others once per image."""

    LEASE = "lease"
    FETCH = "fetch"
    PREPARE = "prepare"
    """Decoding, field detection, gradability and enhancement, in a decoder process."""
    WAIT = "wait"
    """From submission to the dispatch of the batch."""
    INFER = "infer"
    DRAW = "draw"
    UPLOAD = "upload"
    SETTLE = "settle"


class Metrics:
    """Counters and histograms since the start of the worker; thread-safe."""

    def __init__(
        self, chunks_in_flight: Callable[[], int], trace: Callable[[str, float, float], object] = lambda *_: None
    ) -> None:
        """Register the metrics.

        chunks_in_flight: returns the value of the gauge of the same name.
        trace: called for each finished stage with its name and its start and end on the monotonic clock.
        """
        self._trace = trace
        self._registry = registry = CollectorRegistry()
        ProcessCollector(namespace="fundus_worker", registry=registry)
        images = Counter("fundus_worker_images", "Settled images, by status.", ["status"], registry=registry)
        grades = Counter("fundus_worker_graded_images", "Graded images, by ICDR grade.", ["grade"], registry=registry)
        stages = Histogram(
            "fundus_worker_stage_seconds", "Duration of a stage.", ["stage"], buckets=SECONDS_BUCKETS, registry=registry
        )
        # Label values are exported as 0 before their first event: a rate needs a start value.
        self._images = {status: images.labels(str(status)) for status in OUTCOMES}
        self._grades = {grade: grades.labels(str(int(grade))) for grade in Grade}
        self._stages = {stage: stages.labels(str(stage)) for stage in Stage}
        self._errors = Counter(
            "fundus_worker_errors",
            "Settled images without a grade, by status and error code.",
            ["status", "code"],
            registry=registry,
        )
        self._released = Counter(
            "fundus_worker_released_images",
            "Images released because a service failed, by error code.",
            ["code"],
            registry=registry,
        )
        self._attempts = Counter(
            "fundus_worker_attempts",
            "Leased images, by attempt; `3` is the third or later.",
            ["attempt"],
            registry=registry,
        )
        self._lost = Counter(
            "fundus_worker_lost_images", "Outcomes discarded because the lease was lost.", registry=registry
        )
        self._reconciled = Counter(
            "fundus_worker_reconciled", "Images reconciled by this worker, by action.", ["action"], registry=registry
        )
        self.fetched_bytes = Counter("fundus_worker_fetched_bytes", "Bytes of fetched photographs.", registry=registry)
        self.uploaded_bytes = Counter("fundus_worker_uploaded_bytes", "Bytes of uploaded overlays.", registry=registry)
        self._batch = Histogram(
            "fundus_worker_batch_images", "Images per forward pass.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._busy = Counter(
            "fundus_worker_engine_busy_seconds", "Total duration of forward passes.", registry=registry
        )
        Gauge(
            "fundus_worker_chunks_in_flight", "Chunks, reports and scheduled tasks in progress.", registry=registry
        ).set_function(chunks_in_flight)

    @contextmanager
    def time_stage(self, stage: Stage) -> Iterator[None]:
        """Record the duration of the context as one stage, also when it raises."""
        started = monotonic()
        try:
            yield
        finally:
            self.record_stage(stage, started, monotonic())

    def record_stage(self, stage: Stage, started: float, ended: float) -> None:
        """Record a stage by its start and end on the monotonic clock, in seconds."""
        self._stages[stage].observe(ended - started)
        self._trace(stage, started, ended)

    def count_leased(self, images: Collection[LeasedImage]) -> None:
        """Count leased images by attempt."""
        for image in images:
            self._attempts.labels(str(min(image.attempts, MAX_ATTEMPT_LABEL))).inc()

    def count_settled(self, outcomes: Sequence[Outcome], released: Collection[ServiceError]) -> None:
        """Count outcomes written to the ledger and images released to the queue."""
        for outcome in outcomes:
            self._images[outcome.status].inc()
            if outcome.decision is not None:
                self._grades[outcome.decision.grade].inc()
            if outcome.error_code is not None:
                self._errors.labels(str(outcome.status), outcome.error_code).inc()
        for error in released:
            self._released.labels(error.code).inc()

    def settled_by_status(self) -> dict[Status, int]:
        """Return the number of settled images since the start of the worker."""
        name = "fundus_worker_images_total"
        return {status: int(self._registry.get_sample_value(name, {"status": str(status)}) or 0) for status in OUTCOMES}

    def count_lost(self, images: int) -> None:
        """Count outcomes that the ledger rejected because the lease was lost."""
        self._lost.inc(images)

    def count_reconciled(self, done: ReconcileResult | None) -> None:
        """Count the actions of a reconciler pass; None means that another worker ran it."""
        if done is not None:
            for action in ("quarantined", "cancelled", "sent_alone", "sent_again"):
                self._reconciled.labels(action).inc(getattr(done, action))

    def instrument_predict(self, predict: Callable[[Sequence[T]], R]) -> Callable[[Sequence[T]], R]:
        """Wrap `predict` so that its batch sizes and its duration are recorded."""

        def timed_predict(batch: Sequence[T]) -> R:
            self._batch.observe(len(batch))
            started = monotonic()
            try:
                return predict(batch)
            finally:
                self._busy.inc(monotonic() - started)

        return timed_predict

    def serve(self, host: str, port: int | None) -> Callable[[], None]:
        """Serve the metrics over HTTP, unless `port` is None; return a function that stops the server.

        Raises UsageError if the address is in use or not available.
        """
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
