"""A lane of its own for the queue `live`: a clinic's image does not wait for a bulk chunk to end.

A worker that consumes both queues takes so many bulk chunks as it has been set to, and beside them a few live ones. On
one lane it would be full of bulk chunks, and the broker would be asked for the next message only when one is done.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.bootsteps import StartStopStep
from celery.concurrency import thread
from kombu import Consumer
from kombu.common import ignore_errors

from worker.core.messaging.broker import broker_queue
from worker.core.vocabulary import Queue

MAX_LIVE_CHUNKS = 4
"""In flight in one worker, beside bulk."""


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """Celery's pool of threads with room for the live lane, which does not count when bulk is fetched ahead."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executor = ThreadPoolExecutor(max_workers=self.limit + MAX_LIVE_CHUNKS)


class LiveQueueConsumer(StartStopStep):  # type: ignore[misc]
    """Consumes `live` on a channel with a prefetch of its own, where the worker consumes `bulk`, too."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        queues = worker.app.amqp.queues
        self._consumer: Consumer | None = None
        self._is_needed = set(queues.consume_from) == set(Queue)
        if self._is_needed:
            queues.deselect(Queue.LIVE)

    def start(self, worker: Any) -> None:
        """At the start, and again after each loss of the broker."""
        if not self._is_needed:
            return
        channel = worker.connection.channel()
        channel.basic_qos(0, MAX_LIVE_CHUNKS, False)  # noqa: FBT003 - Kombu's name for the argument differs by transport
        self._consumer = Consumer(
            channel,
            queues=[broker_queue(worker.app, Queue.LIVE)],
            accept=worker.app.conf.accept_content,
            on_message=worker.create_task_handler(),
            on_decode_error=worker.on_decode_error,
        )
        self._consumer.consume()

    def stop(self, worker: Any) -> None:
        """Take no more. The channel stays open: what is in flight is acknowledged on it."""
        if self._consumer is not None:
            ignore_errors(worker, self._consumer.cancel)

    def shutdown(self, worker: Any) -> None:
        """Give back what is not acknowledged."""
        self.stop(worker)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            ignore_errors(worker, consumer.channel.close)
