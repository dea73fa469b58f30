"""Process a chunk: lease its images, grade them concurrently, settle their outcomes, finish the run."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

from worker.core.errors import ServiceError
from worker.core.predictions import Outcome
from worker.core.retry import retry_service_errors
from worker.core.vocabulary import Status
from worker.inference.chunk_in_flight import ChunkInFlight
from worker.inference.image_grader import ImageGrader
from worker.inference.metrics import Stage
from worker.inference.suspect_lock import SuspectLock
from worker.inference.watchdog import STUCK_AFTER_S
from worker.ledger.leases import (
    Lease,
    find_graded_uri,
    finish_run,
    holds_lease,
    is_suspect,
    lease_chunk,
    renew_lease,
    settle_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from worker.core.messages import GradeChunk
    from worker.core.settings import Settings
    from worker.core.storage.storage import Storage
    from worker.core.vocabulary import Precision
    from worker.imaging.sandbox.pool import DecoderPool
    from worker.inference.activity_tracker import ActivityTracker, ChunkActivity
    from worker.inference.batcher import Batcher
    from worker.inference.metrics import Metrics
    from worker.model.bundle.ensemble import Model

SETTLE_TIMEOUT_LEASES = 2
"""How long settling is retried, in units of the lease time."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Pipeline:
    """Grades the chunks of one worker process; `grade_chunk` is thread-safe."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Engine,
        storage: Storage,
        model: Model,
        precision: Precision,
        configuration_id: str | None,
        decoders: DecoderPool,
        batcher: Batcher,
        activity: ActivityTracker,
        metrics: Metrics,
        send_report: Callable[[int, str], object],
    ) -> None:
        """Start the event loop.

        precision, configuration_id: what the batcher's engine computes with, see `worker.ledger.configurations`.
        send_report: called with the id and name of a run that finished here and has a pending report.
        """
        self._settings = settings
        self._database = database
        self._model = model
        self._precision = precision
        self._configuration_id = configuration_id
        self._batcher = batcher
        self._activity = activity
        self._metrics = metrics
        self._send_report = send_report
        self._suspect_lock = SuspectLock()
        self._chunks: dict[str, ChunkInFlight] = {}
        self._loop = asyncio.new_event_loop()
        self._grader = ImageGrader(
            loop=self._loop,
            settings=settings,
            storage=storage,
            model=model,
            decoders=decoders,
            batcher=batcher,
            metrics=metrics,
            find_graded_uri=partial(find_graded_uri, database),
            holds_lease=partial(holds_lease, database),
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipeline", daemon=True)
        self._thread.start()

    def grade_chunk(self, chunk: GradeChunk, *, urgent: bool = False) -> dict[str, int]:
        """Lease, grade and settle the images of a chunk; return their number by status.

        An image that a service failed counts as `queued`. Images of an urgent chunk go first at every step.
        Raises MessageError, ModelError or DatabaseError if the chunk could not be leased or settled. Its images stay
        queued in the ledger and are sent again.
        """
        with self._activity.track_chunk() as activity:
            # The copy keeps this chunk's log context out of the contexts of other chunks.
            return copy_context().run(partial(self._grade_chunk, chunk, activity, urgent=urgent))

    def renew_leases(self) -> None:
        """Extend the leases of all images in flight, except those of a chunk with a step that does not end.

        Other workers take the images of such a chunk. Raises DatabaseError.
        """
        for chunk in list(self._chunks.values()):
            lease, step_s = chunk.lease, chunk.activity.longest_step_s
            if step_s < STUCK_AFTER_S:
                renew_lease(self._database, lease, lease_s=self._settings.lease_s)
            else:
                log.error("lease_not_renewed", run=lease.run_name, images=len(lease.images), step_s=round(step_s))

    def close(self) -> None:
        """Stop the event loop and the threads.

        Chunks still in flight are abandoned: their leases expire and their images are sent again.
        """
        asyncio.run_coroutine_threadsafe(_cancel_other_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._grader.close()

    def _grade_chunk(self, chunk: GradeChunk, activity: ChunkActivity, *, urgent: bool) -> dict[str, int]:
        started = monotonic()
        suspect = self._retry(partial(is_suspect, self._database, chunk))
        lock = self._suspect_lock.exclusive if suspect else self._suspect_lock.shared
        with lock(urgent=urgent):
            lease = self._lease(chunk)
            if lease.unknown:
                log.warning("message_unknown_images", images=lease.unknown)
            if not lease.images:
                return {}
            leased = self._chunks[lease.token] = ChunkInFlight(lease, activity, urgent)
            try:
                outcomes, released = asyncio.run_coroutine_threadsafe(self._grade_images(leased), self._loop).result()
                self._settle(lease, outcomes, released)
            finally:
                del self._chunks[lease.token]
        self._finish_run(lease)
        counts = dict(Counter(str(o.status) for o in outcomes) + Counter({str(Status.QUEUED): len(released)}))
        log.info("chunk_settled", images=len(lease.images), **counts, seconds=round(monotonic() - started, 1))
        return counts

    def _lease(self, chunk: GradeChunk) -> Lease:
        with self._metrics.time_stage(Stage.LEASE):
            lease = self._retry(
                partial(
                    lease_chunk,
                    self._database,
                    chunk,
                    model_id=self._model.model_id,
                    precision=self._precision,
                    lease_s=self._settings.lease_s,
                    max_attempts=self._settings.max_attempts,
                )
            )
        bind_contextvars(run=lease.run_name)
        self._metrics.count_leased(lease.images)
        return lease

    async def _grade_images(self, chunk: ChunkInFlight) -> tuple[list[Outcome], dict[str, ServiceError]]:
        """Return the outcomes, and the errors of released images by image id; neither has an image of a lost lease."""
        lease = chunk.lease
        self._batcher.announce(len(lease.images))
        results = await asyncio.gather(*(self._grader.grade(image, chunk) for image in lease.images))
        outcomes = [result for result in results if isinstance(result, Outcome)]
        released = {
            image.image_id: result
            for image, result in zip(lease.images, results, strict=True)
            if isinstance(result, ServiceError)
        }
        return outcomes, released

    def _settle(self, lease: Lease, outcomes: list[Outcome], released: dict[str, ServiceError]) -> None:
        with self._metrics.time_stage(Stage.SETTLE):
            written = retry_service_errors(
                partial(
                    settle_chunk,
                    self._database,
                    lease,
                    outcomes,
                    released,
                    model_id=self._model.model_id,
                    configuration_id=self._configuration_id,
                    publish=self._settings.publication_kinds,
                    retry_after_s=self._settings.resend_after_s,
                ),
                # Longer than other calls: once the ledger is back, the lease is renewed and finished work is saved.
                timeout_s=SETTLE_TIMEOUT_LEASES * self._settings.lease_s,
            )
        if written == len(lease.images):
            self._metrics.count_settled(outcomes, released.values())
        else:
            self._metrics.count_lost(len(lease.images) - written)
            log.warning("lease_lost", images=len(lease.images), written=written)

    def _finish_run(self, lease: Lease) -> None:
        if self._retry(partial(finish_run, self._database, lease.run_id, report=self._settings.reports)):
            try:
                self._send_report(lease.run_id, lease.run_name)
            except ServiceError as error:
                # The report stays pending in the ledger; the reconciler sends it again.
                log.warning("report_not_sent", code=error.code, detail=error.detail)

    def _retry(self, work: Callable[[], T]) -> T:
        return retry_service_errors(work, timeout_s=self._settings.service_retry_timeout_s)


async def _cancel_other_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
