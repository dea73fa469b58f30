"""Grade one image: fetch, prepare, predict, render the overlay, upload it.

All images in flight share one event loop, one pool of decoders, one batcher and one pool of threads, so that the
accelerator works on some images while others are fetched or uploaded. A priority semaphore in front of each resource
keeps the queue behind it short, so that an urgent image is next. An image that waits until a transfer is tried again
holds no thread, no slot and no place in a batch.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import structlog
from structlog.contextvars import bind_contextvars

from worker.core.errors import ImageError, ImageFormatError, LeaseLostError, ModelError, ServiceError, Ungradable
from worker.core.image_name import name_below
from worker.core.machine import usable_cores
from worker.core.predictions import Outcome
from worker.core.retry import retry_transfer
from worker.core.vocabulary import Status
from worker.imaging.steps.fetch import fetch_photograph, fetch_stack_entry, is_stack_entry
from worker.imaging.steps.overlay import encode_overlay, render_overlay
from worker.imaging.steps.panel import render_panel
from worker.imaging.steps.prepare import prepare_stack_entry
from worker.inference.circuit_breaker import CircuitBreaker
from worker.inference.future_bridge import FutureBridge
from worker.inference.image_source import ImageSource
from worker.inference.metrics import Stage
from worker.inference.priority_semaphore import PrioritySemaphore
from worker.inference.upload_overlay import upload_overlay
from worker.model.decide_grade import decide_grade

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable

    from worker.core.content import ContentId
    from worker.core.predictions import GradeDecision, Prediction
    from worker.core.settings import Settings
    from worker.core.storage.storage import Storage
    from worker.imaging.photograph import PreparedImage
    from worker.imaging.sandbox.pool import DecoderPool
    from worker.imaging.steps.fetch import Fetched
    from worker.inference.batcher import Batcher
    from worker.inference.chunk_in_flight import ChunkInFlight
    from worker.inference.metrics import Metrics
    from worker.ledger.leases import Lease, LeasedImage
    from worker.model.bundle.ensemble import Model

    OnFetched = Callable[[ContentId], None]

T = TypeVar("T")
log = structlog.get_logger(__name__)


class ImageGrader:
    """Runs the steps of any number of images concurrently on one event loop."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        settings: Settings,
        storage: Storage,
        model: Model,
        decoders: DecoderPool,
        batcher: Batcher,
        metrics: Metrics,
        find_graded_uri: Callable[[int, str], str | None],
        holds_lease: Callable[[Lease, str], bool],
    ) -> None:
        """find_graded_uri: see ImageSource. holds_lease: whether a lease still covers the image with an id."""
        self._settings = settings
        self._storage = storage
        self._model = model
        self._decoders = decoders
        self._batcher = batcher
        self._metrics = metrics
        self._holds_lease = holds_lease
        # Bounds the memory of encoded photographs that are being fetched or wait for a decoder.
        self._prefetch_slots = PrioritySemaphore(settings.transfer_threads + settings.decode_processes)
        self._decode_slots = PrioritySemaphore(settings.decode_processes)
        self._render_slots = PrioritySemaphore(cores := usable_cores())
        self._transfer_slots = PrioritySemaphore(settings.transfer_threads)
        self._threads = ThreadPoolExecutor(settings.transfer_threads + cores, thread_name_prefix="transfer")
        self._bridge = FutureBridge(loop)
        self._source = ImageSource(storage.sources, find_graded_uri, patience_s=settings.service_retry_timeout_s)
        # Never down: images that wait for their upload keep the worker from grading others in vain.
        self._overlay_breaker = CircuitBreaker(settings.storage_url, patience_s=math.inf)

    async def grade(self, image: LeasedImage, chunk: ChunkInFlight) -> Outcome | ServiceError | LeaseLostError:
        """Return the outcome of one image, the error of the service that failed it, or that another worker grades it.

        The image must have been announced to the batcher. Never raises an Exception: an unexpected one becomes a failed
        outcome and is logged with its traceback, so that it does not affect the other images of the chunk.
        """
        fetched: list[ContentId] = []
        result = await self._grade(image, chunk, fetched.append)
        return replace(result, content=fetched[-1]) if fetched and isinstance(result, Outcome) else result

    async def _grade(
        self, image: LeasedImage, chunk: ChunkInFlight, on_fetched: OnFetched
    ) -> Outcome | ServiceError | LeaseLostError:
        file = {"file": name_below(image.uri, chunk.lease.source)} if self._settings.log_file_names else {}
        bind_contextvars(image=image.image_id, **file)
        try:
            prepared = await self._prepare(image, chunk, on_fetched)
            chunk.activity.touch()
            prediction = await self._predict(prepared, urgent=chunk.urgent)
            chunk.activity.touch()
            return await self._publish(image, prepared, prediction, chunk)
        except LeaseLostError as error:
            log.warning(error.code, detail=error.detail)
            return error
        except ServiceError as error:
            log.warning("released", code=error.code, detail=error.detail)
            return error
        except (ImageError, Ungradable, ModelError) as error:
            status = Status.UNGRADABLE if isinstance(error, Ungradable) else Status.FAILED
            log.warning(str(status), code=error.code, detail=error.detail)
            return Outcome(image.image_id, status, error_code=error.code, error_detail=error.detail)
        except Exception as error:
            log.exception("unexpected")
            detail = f"{type(error).__name__}: {error}"
            return Outcome(image.image_id, Status.FAILED, error_code="unexpected", error_detail=detail)
        finally:
            chunk.activity.touch()

    def close(self) -> None:
        """Wait for running transfers and stop the threads."""
        self._threads.shutdown()

    async def _prepare(self, image: LeasedImage, chunk: ChunkInFlight, on_fetched: OnFetched) -> PreparedImage:
        is_announced = True

        async def attempt() -> PreparedImage:
            nonlocal is_announced
            if not is_announced:
                self._batcher.announce(1)
            is_announced = True
            try:
                return await self._fetch_and_decode(image, chunk, on_fetched)
            except BaseException:
                self._batcher.withdraw()
                is_announced = False
                raise

        return await self._retry(attempt)

    async def _fetch_and_decode(self, image: LeasedImage, chunk: ChunkInFlight, on_fetched: OnFetched) -> PreparedImage:
        run_id = chunk.lease.run_id
        async with self._prefetch_slots.acquire(urgent=chunk.urgent):
            if is_stack_entry(image.uri):
                return await self._transfer(partial(self._prepare_stack_entry, image, run_id, on_fetched), chunk)
            photograph = await self._transfer(partial(self._fetch, image, run_id), chunk)
            on_fetched(photograph.content)
            async with self._decode_slots.acquire(urgent=chunk.urgent):
                with self._metrics.time_stage(Stage.PREPARE), chunk.activity.track_step():
                    return await self._bridge.wait(self._decoders.submit(photograph.data))

    def _fetch(self, image: LeasedImage, run_id: int) -> Fetched[bytes]:
        limit = self._settings.max_image_bytes
        with self._metrics.time_stage(Stage.FETCH):
            photograph = self._source.read(
                image,
                run_id,
                lambda: fetch_photograph(self._storage.sources, image.uri, max_bytes=limit, sha256=image.sha256),
            )
        self._metrics.fetched_bytes.inc(len(photograph.data))
        return photograph

    def _prepare_stack_entry(self, image: LeasedImage, run_id: int, on_fetched: OnFetched) -> PreparedImage:
        if self._model.extra_recipes:
            raise ImageFormatError(
                f"stack entry has one preprocessing; ensemble {self._model.name} needs"
                f" {1 + len(self._model.extra_recipes)}"
            )
        limit = self._settings.max_image_bytes
        with self._metrics.time_stage(Stage.FETCH):
            entry = self._source.read(
                image, run_id, lambda: fetch_stack_entry(self._storage.sources, image.uri, max_bytes=limit)
            )
        on_fetched(entry.content)
        self._metrics.fetched_bytes.inc(entry.data.nbytes)
        with self._metrics.time_stage(Stage.PREPARE):
            return prepare_stack_entry(
                entry.data, recipe=self._model.recipe, overlay_size_px=self._settings.overlay_size_px
            )

    async def _predict(self, prepared: PreparedImage, *, urgent: bool) -> Prediction:
        pending = self._batcher.submit(prepared.model_input, urgent=urgent)
        prediction = await self._bridge.wait(pending)
        self._metrics.record_stage(Stage.WAIT, pending.enqueued_at, pending.dispatched_at)
        self._metrics.record_stage(Stage.INFER, pending.dispatched_at, monotonic())
        return prediction

    async def _publish(
        self, image: LeasedImage, prepared: PreparedImage, prediction: Prediction, chunk: ChunkInFlight
    ) -> Outcome:
        decision = decide_grade(prediction, self._model)
        async with self._render_slots.acquire(urgent=chunk.urgent):
            encoded = await self._in_thread(partial(self._render, image, prepared, prediction, decision), chunk)
        upload = partial(self._upload, image, encoded, decision, chunk.lease)
        key = await self._retry(partial(self._transfer, upload, chunk))
        return Outcome(image.image_id, Status.GRADED, prediction, decision, key)

    def _render(
        self, image: LeasedImage, prepared: PreparedImage, prediction: Prediction, decision: GradeDecision
    ) -> bytes:
        settings = self._settings
        with self._metrics.time_stage(Stage.DRAW):
            overlay = render_overlay(
                prepared, prediction.saliency, settings.overlay_colours, strength=prediction.strength
            )
            if settings.overlay_panels:
                titles = (image.image_id, f"graded {decision.grade:d}")
                overlay = render_panel(prepared, overlay, titles, settings.overlay_size_px)
            return encode_overlay(overlay, settings.overlay_format, settings.overlay_quality)

    def _upload(self, image: LeasedImage, encoded: bytes, decision: GradeDecision, lease: Lease) -> str:
        with self._metrics.time_stage(Stage.UPLOAD), self._overlay_breaker.request():
            key = upload_overlay(
                self._storage.overlays,
                encoded,
                run_name=lease.run_name,
                model_id=self._model.model_id,
                image_id=image.image_id,
                decision=decision,
                fmt=self._settings.overlay_format,
                is_held=partial(self._holds_lease, lease, image.image_id),
            )
        self._metrics.uploaded_bytes.inc(len(encoded))
        return key

    async def _transfer(self, work: Callable[[], T], chunk: ChunkInFlight) -> T:
        async with self._transfer_slots.acquire(urgent=chunk.urgent):
            return await self._in_thread(work, chunk)

    async def _in_thread(self, work: Callable[[], T], chunk: ChunkInFlight) -> T:
        with chunk.activity.track_step():
            return await self._bridge.wait(self._threads.submit(copy_context().run, work))

    async def _retry(self, work: Callable[[], Awaitable[T]]) -> T:
        return await retry_transfer(work, timeout_s=self._settings.service_retry_timeout_s)
