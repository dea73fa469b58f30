"""Consume a queue on a channel of its own, so that its messages do not wait for a bulk chunk to finish.

With Celery's single consumer, bulk chunks would take all slots, and any other message would be fetched only when one
finishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from celery.bootsteps import StartStopStep
from kombu import Consumer
from kombu.common import ignore_errors

from worker.core.messaging.broker import broker_queue

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


class SideQueueConsumer(StartStopStep):  # type: ignore[misc]
    """Celery start-up step that takes `queue` from the main consumer if the worker consumes the others, too."""

    requires = ("celery.worker.consumer:Tasks",)
    queue: ClassVar[str]
    along_with: ClassVar[AbstractSet[str]]
    max_in_flight: ClassVar[int]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        queues = worker.app.amqp.queues
        self._consumer: Consumer | None = None
        self._is_enabled = {self.queue, *self.along_with} <= set(queues.consume_from)
        if self._is_enabled:
            queues.deselect(self.queue)

    def start(self, worker: Any) -> None:
        """Start consuming; Celery calls it again after each loss of the broker."""
        if not self._is_enabled:
            return
        channel = worker.connection.channel()
        channel.basic_qos(0, self.max_in_flight, False)  # noqa: FBT003 - the argument's name differs between Kombu transports
        self._consumer = Consumer(
            channel,
            queues=[broker_queue(worker.app, self.queue)],
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
