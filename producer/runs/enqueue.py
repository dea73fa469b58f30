"""Enqueue references into a run: register a batch, commit, then send the messages for what was new."""

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

Progress = Callable[[int, int], None]
"""Takes the images found so far and those of them that were new."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What one enqueue did: `found` references were read, `new` of them were added, in `messages` messages."""

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
    progress: Progress,
) -> Enqueued:
    """Add what the run does not have yet, and let it finish once all is settled.

    A batch is committed before its messages are sent, so a crash in between leaves rows that the reconciler sends.
    Raises SourceError, RunError, DatabaseError or BrokerError; the run stays open then, and the same call goes on.
    """
    started = time.monotonic()

    def take() -> list[ImageReference]:
        return list(islice(references, BATCH_IMAGES))

    batch = take()  # before the run is made: an unreadable source makes none
    retry = partial(retry_service_errors, timeout_s=settings.service_retry_timeout_s)
    run, position = retry(partial(open_run, engine, request, default_chunk_size=settings.chunk_size))
    found = new = messages = 0
    with (
        ThreadPoolExecutor(1, thread_name_prefix="sender") as sender,
        ThreadPoolExecutor(1, thread_name_prefix="reader") as reader,
    ):
        sending: Future[int] | None = None
        while batch:
            coming = reader.submit(take)
            added = retry(
                partial(register_batch, engine, run, batch, position=position, resend_after_s=settings.resend_after_s)
            )
            position += len(added)
            found += len(batch)
            new += len(added)
            messages += sending.result() if sending else 0
            # While the database takes a batch, the broker takes the one before and the source gives the next.
            sending = sender.submit(send_images, app, run, added, run.chunk_size)
            progress(found, new)
            batch = coming.result()
        messages += sending.result() if sending else 0
    # Images may all be settled by now; the reconciler sends for the report of a run that finishes here.
    state = retry(partial(seal_run, engine, run, report=settings.reports, found=found, new=new, messages=messages))
    return Enqueued(run.name, state, found, new, messages, time.monotonic() - started)


def send_images(app: "Celery", run: Run, image_ids: tuple[str, ...], chunk_size: int) -> int:
    """Send these images in chunks to the run's queue; the number of messages. Raises BrokerError."""
    chunks = chunked(image_ids, chunk_size)
    for chunk in chunks:
        send_chunk(app, GradeChunk(run_id=run.run_id, image_ids=chunk), queue=run.queue, run_name=run.name)
    return len(chunks)
