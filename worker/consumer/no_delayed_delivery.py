"""Celery's consumer without native delayed delivery, which declares 28 queues on RabbitMQ.

They are not needed: `validation` rejects messages with an ETA.
"""

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Consumer class for Celery's setting `worker_consumer`."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Start-up steps without the one for delayed delivery."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step]  # noqa: RUF012 - Celery declares it without ClassVar
