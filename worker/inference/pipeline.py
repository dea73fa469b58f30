"""Carry the images of a chunk through the steps: fetch and prepare, grade and explain, draw and upload, settle.

All chunks in flight share one event loop, one pool of decoders, one batcher and one pool of threads, so that the
accelerator works on some images while others are fetched and others uploaded. Before each of them is a turnstile: no
queue behind it is longer than it has places, and an urgent image passes at the next.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

from worker.core.errors import ImageError, ImageFormatError, ModelError, ServiceError, Ungradable
from worker.core.predictions import Outcome
from worker.core.retry import retry_service_errors
from worker.core.vocabulary import Status
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import encode_overlay, render_overlay
from worker.imaging.steps.panel import render_panel
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.inference.future_bridge import FutureBridge
from worker.inference.metrics import Stage
from worker.inference.priority_semaphore import PrioritySemaphore
from worker.inference.suspect_lock import SuspectLock
from worker.inference.upload_overlay import upload_overlay
from worker.ledger.leases import Lease, finish_run, is_suspect, lease_chunk, renew_lease, settle_chunk
from worker.model.decide_grade import decide_grade

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from worker.core.messages import GradeChunk
    from worker.core.predictions import Decision, Prediction
    from worker.core.settings import Settings
    from worker.core.storage.object_store import Storage
    from worker.imaging.photograph import PreparedImage
    from worker.imaging.sandbox.pool import DecoderPool
    from worker.inference.batcher import Batcher
    from worker.inference.metrics import Metrics
    from worker.inference.watchdog import ActivityTracker
    from worker.ledger.leases import LeasedImage
    from worker.model.bundle.ensemble import Model

SETTLE_TIMEOUT_LEASES = 2

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Pipeline:
    """What one worker process does with chunks; `grade_chunk` may be called from many threads at once."""

    def __init__(
        self,
        settings: Settings,
        database: Engine,
        storage: Storage,
        bundle: Model,
        decoders: DecoderPool,
        batcher: Batcher,
        activity: ActivityTracker,
        metrics: Metrics,
        *,
        send_for_report: Callable[[int, str], object],
    ) -> None:
        """`send_for_report` takes the number and the name of a run that finished here and owes a report."""
        self._settings = settings
        self._database = database
        self._storage = storage
        self._bundle = bundle
        self._decoders = decoders
        self._batcher = batcher
        self._activity = activity
        self._metrics = metrics
        self._send_for_report = send_for_report
        self._suspect_lock = SuspectLock()
        self._leases: dict[str, Lease] = {}
        # Photographs whose bytes are here, or on their way, and wait for a decoder: what bounds their memory.
        self._ahead = PrioritySemaphore(settings.transfer_threads + settings.decode_processes)
        self._decoding = PrioritySemaphore(settings.decode_processes)
        self._drawing = PrioritySemaphore(cores := len(os.sched_getaffinity(0)))
        self._transferring = PrioritySemaphore(settings.transfer_threads)
        self._threads = ThreadPoolExecutor(settings.transfer_threads + cores, thread_name_prefix="transfer")
        self._loop = asyncio.new_event_loop()
        self._bridge = FutureBridge(self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipeline", daemon=True)
        self._thread.start()

    def grade_chunk(self, chunk: GradeChunk, *, urgent: bool = False) -> dict[str, int]:
        """Lease, grade and settle; the number of images by status, `queued` for those that a service failed.

        At every step, the images of an urgent chunk go before those that wait.
        Raises MessageError, ModelError or DatabaseError when nothing could be leased or settled; the rows then stay
        queued in the ledger and are sent again.
        """
        with self._activity.track_chunk():
            # What is bound to the log below, and in the tasks and threads that are begun there, is of this chunk alone.
            return copy_context().run(partial(self._grade_chunk, chunk, urgent=urgent))

    def renew_leases(self) -> None:
        """Keep the images in flight ours. Raises DatabaseError."""
        for lease in list(self._leases.values()):
            renew_lease(self._database, lease, lease_s=self._settings.lease_s)

    def close(self) -> None:
        """Stop the threads. Chunks still in flight are abandoned: their leases run out and they are sent again."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._threads.shutdown()

    def _grade_chunk(self, chunk: GradeChunk, *, urgent: bool) -> dict[str, int]:
        suspect = self._retry(partial(is_suspect, self._database, chunk))
        with self._suspect_lock.exclusive() if suspect else self._suspect_lock.shared():
            lease = self._lease(chunk)
            if lease.unknown:
                log.warning("message_unknown_images", images=lease.unknown)
            if not lease.images:
                return {}
            self._leases[lease.token] = lease
            try:
                outcomes, released = asyncio.run_coroutine_threadsafe(
                    self._grade(lease, urgent=urgent), self._loop
                ).result()
                self._settle(lease, outcomes, released)
            finally:
                del self._leases[lease.token]
        self._finish_run(lease)
        return dict(Counter(str(o.status) for o in outcomes) + Counter({str(Status.QUEUED): len(released)}))

    def _lease(self, chunk: GradeChunk) -> Lease:
        with self._metrics.time_stage(Stage.LEASE):
            lease = self._retry(
                partial(
                    lease_chunk,
                    self._database,
                    chunk,
                    model_id=self._bundle.model_id,
                    lease_s=self._settings.lease_s,
                    max_attempts=self._settings.max_attempts,
                )
            )
        bind_contextvars(run=lease.run_name)
        self._metrics.count_leased(lease.images)
        return lease

    def _settle(self, lease: Lease, outcomes: list[Outcome], released: dict[str, ServiceError]) -> None:
        with self._metrics.time_stage(Stage.SETTLE):
            written = retry_service_errors(
                partial(
                    settle_chunk,
                    self._database,
                    lease,
                    outcomes,
                    released,
                    model_id=self._bundle.model_id,
                    retry_after_s=self._settings.resend_after_s,
                ),
                # The work is done and would be lost; when the ledger is back, the lease is renewed and it is written.
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
                self._send_for_report(lease.run_id, lease.run_name)
            except ServiceError as error:
                # It is owed in the ledger: the reconciler sends for it again.
                log.warning("report_not_sent", code=error.code, detail=error.detail)

    async def _grade(self, lease: Lease, *, urgent: bool) -> tuple[list[Outcome], dict[str, ServiceError]]:
        self._batcher.announce(len(lease.images))
        results = await asyncio.gather(*(self._grade_image(lease, image, urgent=urgent) for image in lease.images))
        outcomes = [result for result in results if isinstance(result, Outcome)]
        released = {
            image.image_id: result
            for image, result in zip(lease.images, results, strict=True)
            if isinstance(result, ServiceError)
        }
        return outcomes, released

    async def _grade_image(self, lease: Lease, image: LeasedImage, *, urgent: bool) -> Outcome | ServiceError:
        """The one place where an image's failure becomes its outcome and a service's failure a release."""
        bind_contextvars(image=image.image_id)
        try:
            prepared = await self._prepare(image, urgent=urgent)
            self._activity.touch()
            prediction = await self._predict(prepared, urgent=urgent)
            self._activity.touch()
            return await self._publish(lease, image, prepared, prediction, urgent=urgent)
        except ServiceError as error:
            log.warning("released", code=error.code, detail=error.detail)
            return error
        except (ImageError, Ungradable, ModelError) as error:
            status = Status.UNGRADABLE if isinstance(error, Ungradable) else Status.FAILED
            log.info(str(status), code=error.code, detail=error.detail)
            return Outcome(image.image_id, status, error_code=error.code, error_detail=error.detail)
        except Exception as error:
            # A fault of ours, yet the neighbours must not pay for it: the traceback goes to the log.
            log.exception("unexpected")
            detail = f"{type(error).__name__}: {error}"
            return Outcome(image.image_id, Status.FAILED, error_code="unexpected", error_detail=detail)
        finally:
            self._activity.touch()

    async def _prepare(self, image: LeasedImage, *, urgent: bool) -> PreparedImage:
        try:
            return await self._fetch_and_decode(image, urgent=urgent)
        except BaseException:
            self._batcher.withdraw()
            raise

    async def _fetch_and_decode(self, image: LeasedImage, *, urgent: bool) -> PreparedImage:
        async with self._ahead.acquire(urgent=urgent):
            if is_stack_entry(image.uri):
                return await self._transfer(partial(self._prepare_stack_entry, image), urgent=urgent)
            data = await self._transfer(partial(self._fetch, image), urgent=urgent)
            async with self._decoding.acquire(urgent=urgent):
                with self._metrics.time_stage(Stage.PREPARE):
                    return await self._bridge.wait(self._decoders.submit(data))

    def _fetch(self, image: LeasedImage) -> bytes:
        limit = self._settings.max_image_bytes
        with self._metrics.time_stage(Stage.FETCH):
            data = self._retry(lambda: fetch_photograph(self._storage, image.uri, max_bytes=limit, sha256=image.sha256))
        self._metrics.fetched_bytes.inc(len(data))
        return data

    def _prepare_stack_entry(self, image: LeasedImage) -> PreparedImage:
        if self._bundle.extra_recipes:
            raise ImageFormatError(
                f"entry is prepared in one way, and {self._bundle.name} needs {1 + len(self._bundle.extra_recipes)}"
            )
        limit = self._settings.max_image_bytes
        with self._metrics.time_stage(Stage.FETCH):
            entry = self._retry(lambda: fetch_stack_entry(self._storage, image.uri, max_bytes=limit))
        self._metrics.fetched_bytes.inc(entry.nbytes)
        with self._metrics.time_stage(Stage.PREPARE):
            return prepare_stack_entry(
                entry, recipe=self._bundle.recipe, overlay_size_px=self._settings.overlay_size_px
            )

    async def _predict(self, prepared: PreparedImage, *, urgent: bool) -> Prediction:
        pending = self._batcher.submit(prepared.model_input, urgent=urgent)
        prediction = await self._bridge.wait(pending)
        self._metrics.record_stage(Stage.WAIT, pending.enqueued_at, pending.dispatched_at)
        self._metrics.record_stage(Stage.INFER, pending.dispatched_at, monotonic())
        return prediction

    async def _publish(
        self, lease: Lease, image: LeasedImage, prepared: PreparedImage, prediction: Prediction, *, urgent: bool
    ) -> Outcome:
        decision = decide_grade(prediction, self._bundle)
        async with self._drawing.acquire(urgent=urgent):
            encoded = await self._in_thread(partial(self._draw, image, prepared, prediction, decision))
        key = await self._transfer(partial(self._upload, lease, image, encoded, decision), urgent=urgent)
        return Outcome(image.image_id, Status.GRADED, prediction, decision, key)

    def _draw(self, image: LeasedImage, prepared: PreparedImage, prediction: Prediction, decision: Decision) -> bytes:
        settings = self._settings
        with self._metrics.time_stage(Stage.DRAW):
            overlay = render_overlay(prepared, prediction.saliency, settings.overlay_colours)
            if settings.overlay_panels:
                titles = (image.image_id, f"graded {decision.grade:d}")
                overlay = render_panel(prepared, overlay, titles, settings.overlay_size_px)
            return encode_overlay(overlay, settings.overlay_format, settings.overlay_quality)

    def _upload(self, lease: Lease, image: LeasedImage, encoded: bytes, decision: Decision) -> str:
        with self._metrics.time_stage(Stage.UPLOAD):
            key = self._retry(
                lambda: upload_overlay(
                    self._storage.overlays,
                    encoded,
                    run_name=lease.run_name,
                    model_id=self._bundle.model_id,
                    image_id=image.image_id,
                    decision=decision,
                    fmt=self._settings.overlay_format,
                )
            )
        self._metrics.uploaded_bytes.inc(len(encoded))
        return key

    async def _transfer(self, work: Callable[[], T], *, urgent: bool) -> T:
        async with self._transferring.acquire(urgent=urgent):
            return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._bridge.wait(self._threads.submit(copy_context().run, work))

    def _retry(self, work: Callable[[], T]) -> T:
        return retry_service_errors(work, timeout_s=self._settings.service_retry_timeout_s)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
