"""Enqueue references into a run: register each batch, commit it, then send messages for its new images."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from producer.runs.lifecycle import RunRequest, open_run, seal_run
from producer.runs.register import check_uri_conflicts, index_by_image_id, read_known_images, register_batch
from worker.core.errors import BrokerError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import chunked, send_chunk
from worker.core.retry import retry_service_errors
from worker.core.settings import Settings
from worker.core.terminal.output import format_duration
from worker.core.vocabulary import RunState
from worker.ledger.database import read_transaction
from worker.ledger.runs import Run

if TYPE_CHECKING:
    from celery import Celery

BATCH_IMAGES = 4096

OnEnqueueProgress = Callable[[int, int], None]
"""Called with the number of references read so far and the number of them that were new."""


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """Result of an enqueue.

    found: references read. new: images added. messages: messages sent. seconds: duration.
    """

    run: str
    state: RunState
    found: int
    new: int
    messages: int
    seconds: float


def enqueue(
    engine: Engine,
    app: "Celery",
    settings: Settings,
    request: RunRequest,
    references: Iterator[ImageReference],
    on_progress: OnEnqueueProgress,
    *,
    may_be_empty: bool = False,
) -> EnqueueResult:
    """Add the images that the run lacks, then seal the run, so that it finishes once all images are settled.

    Each batch is committed before its messages are sent: after a crash in between, the reconciler sends them. Without a
    broker, all images are registered and the run is sealed before the BrokerError is raised. Raises SourceError for a
    source without images, which makes no run, SourceError, RunError or DatabaseError; the run then stays open and the
    same call resumes it.
    """
    started = time.monotonic()

    def read_batch() -> list[ImageReference]:
        return list(islice(references, BATCH_IMAGES))

    batch = read_batch()  # first: an unreadable source must not create a run
    if not batch and not may_be_empty:
        raise SourceError(f"{request.source} has no image; fix: name a folder, prefix or manifest with photographs")
    _check_conflicts(engine, batch)
    retry = partial(retry_service_errors, timeout_s=settings.service_retry_timeout_s)
    run, position = retry(partial(open_run, engine, request, default_chunk_size=settings.chunk_size))
    found = new = 0
    sent = _Sent(app, run)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="sender") as sender,
        ThreadPoolExecutor(1, thread_name_prefix="reader") as reader,
    ):
        sending: Future[None] | None = None
        while batch:
            next_batch = reader.submit(read_batch)
            added = retry(
                partial(register_batch, engine, run, batch, position=position, resend_after_s=settings.resend_after_s)
            )
            position += len(added)
            found += len(batch)
            new += len(added)
            if sending:
                sending.result()
            # Pipeline of three batches: one is read, one is registered and one is sent.
            sending = sender.submit(sent.send, added)
            on_progress(found, new)
            batch = next_batch.result()
        if sending:
            sending.result()
    # If all images are settled by now, the run finishes here and the reconciler requests its report.
    counts = {"found": found, "new": new, "messages": sent.messages}
    state = retry(partial(seal_run, engine, run, report=settings.reports, **counts))
    if sent.error is not None:
        raise BrokerError(_describe_unsent(sent, sent.error, settings)) from sent.error
    return EnqueueResult(run.name, state, found, new, sent.messages, time.monotonic() - started)


def _check_conflicts(engine: Engine, batch: list[ImageReference]) -> None:
    """Raise SourceError if an image id has two URIs, before a run is made; later batches are checked on their way."""
    by_id = index_by_image_id(batch)
    with read_transaction(engine) as connection:
        check_uri_conflicts(by_id, read_known_images(connection, list(by_id), None))


class _Sent:
    """Sends the images of a run until the broker fails, and counts messages and unsent images."""

    def __init__(self, app: "Celery", run: Run) -> None:
        self._app = app
        self.run = run
        self.messages = 0
        self.unsent = 0
        self.error: BrokerError | None = None

    def send(self, image_ids: tuple[str, ...]) -> None:
        for chunk in chunked(image_ids, self.run.chunk_size):
            if self.error is None:
                try:
                    self.messages += send_images(self._app, self.run, chunk, self.run.chunk_size)
                    continue
                except BrokerError as error:
                    self.error = error
            self.unsent += len(chunk)


def _describe_unsent(sent: _Sent, error: BrokerError, settings: Settings) -> str:
    # The reconciler waits until images are due, and its first pass after a change of worker only takes the lock.
    soon = format_duration(settings.resend_after_s + 2 * settings.reconcile_every_s)
    return (
        f"{error.detail}; {sent.unsent:,} images of run {sent.run.name} are recorded:"
        f" a worker sends them within {soon} of the broker's return; fix: start the broker or correct"
        f" FUNDUS_BROKER_URL, then wait, or run `fundus resend {sent.run.name}`"
    )


def send_images(app: "Celery", run: Run, image_ids: tuple[str, ...], chunk_size: int) -> int:
    """Send images to the run's queue in chunks and return the number of messages. Raises BrokerError."""
    chunks = chunked(image_ids, chunk_size)
    for chunk in chunks:
        send_chunk(app, GradeChunk(run_id=run.run_id, image_ids=chunk), queue=run.queue, run_name=run.name)
    return len(chunks)
