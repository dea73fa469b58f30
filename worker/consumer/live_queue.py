"""Consume the queue `live` separately, so that a clinic's image does not wait for a bulk chunk to finish.

A worker on both queues processes `concurrency` bulk chunks and up to MAX_LIVE_CHUNKS live chunks at the same time. With
Celery's single consumer, bulk chunks would take all slots, and a live message would be fetched only when one finishes.
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
"""Live chunks in flight in one worker, in addition to bulk chunks."""


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """Celery's thread pool with extra threads for live chunks, which its prefetch count does not include."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executor = ThreadPoolExecutor(max_workers=self.limit + MAX_LIVE_CHUNKS)


class LiveQueueConsumer(StartStopStep):  # type: ignore[misc]
    """Celery start-up step that consumes `live` on a separate channel if the worker also consumes `bulk`."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        queues = worker.app.amqp.queues
        self._consumer: Consumer | None = None
        self._is_enabled = set(queues.consume_from) == set(Queue)
        if self._is_enabled:
            queues.deselect(Queue.LIVE)

    def start(self, worker: Any) -> None:
        """Start consuming; Celery calls it again after each loss of the broker."""
        if not self._is_enabled:
            return
        channel = worker.connection.channel()
        channel.basic_qos(0, MAX_LIVE_CHUNKS, False)  # noqa: FBT003 - the argument's name differs between Kombu transports
        self._consumer = Consumer(
            channel,
            queues=[broker_queue(worker.app, Queue.LIVE)],
            accept=worker.app.conf.accept_content,
            on_message=worker.create_task_handler(),
            on_decode_error=worker.on_decode_error,
        )
        self._consumer.consume()

    def stop(self, worker: Any) -> None:
        """Stop consuming. The channel stays open, since messages in flight are acknowledged on it."""
        if self._consumer is not None:
            ignore_errors(worker, self._consumer.cancel)

    def shutdown(self, worker: Any) -> None:
        """Close the channel, which returns unacknowledged messages to the queue."""
        self.stop(worker)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            ignore_errors(worker, consumer.channel.close)
