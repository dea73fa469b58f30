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
from producer.runs.register import register_batch
from worker.core.manifests.image_reference import ImageReference
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import chunked, send_chunk
from worker.core.retry import retry_service_errors
from worker.core.settings import Settings
from worker.core.vocabulary import RunState
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
) -> EnqueueResult:
    """Add the images that the run lacks, then seal the run, so that it finishes once all images are settled.

    Each batch is committed before its messages are sent: after a crash in between, the reconciler sends them.
    Raises SourceError, RunError, DatabaseError or BrokerError; the run then stays open and the same call resumes it.
    """
    started = time.monotonic()

    def read_batch() -> list[ImageReference]:
        return list(islice(references, BATCH_IMAGES))

    batch = read_batch()  # first: an unreadable source must not create a run
    retry = partial(retry_service_errors, timeout_s=settings.service_retry_timeout_s)
    run, position = retry(partial(open_run, engine, request, default_chunk_size=settings.chunk_size))
    found = new = messages = 0
    with (
        ThreadPoolExecutor(1, thread_name_prefix="sender") as sender,
        ThreadPoolExecutor(1, thread_name_prefix="reader") as reader,
    ):
        sending: Future[int] | None = None
        while batch:
            next_batch = reader.submit(read_batch)
            added = retry(
                partial(register_batch, engine, run, batch, position=position, resend_after_s=settings.resend_after_s)
            )
            position += len(added)
            found += len(batch)
            new += len(added)
            messages += sending.result() if sending else 0
            # Pipeline of three batches: one is read, one is registered and one is sent.
            sending = sender.submit(send_images, app, run, added, run.chunk_size)
            on_progress(found, new)
            batch = next_batch.result()
        messages += sending.result() if sending else 0
    # If all images are settled by now, the run finishes here and the reconciler requests its report.
    state = retry(partial(seal_run, engine, run, report=settings.reports, found=found, new=new, messages=messages))
    return EnqueueResult(run.name, state, found, new, messages, time.monotonic() - started)


def send_images(app: "Celery", run: Run, image_ids: tuple[str, ...], chunk_size: int) -> int:
    """Send images to the run's queue in chunks and return the number of messages. Raises BrokerError."""
    chunks = chunked(image_ids, chunk_size)
    for chunk in chunks:
        send_chunk(app, GradeChunk(run_id=run.run_id, image_ids=chunk), queue=run.queue, run_name=run.name)
    return len(chunks)
