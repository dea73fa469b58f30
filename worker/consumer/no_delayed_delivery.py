"""Celery's consumer, without the 28 queues that it would declare on RabbitMQ for messages of a later hour.

The gate lets no such message through.
"""

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """What `worker_consumer` names."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """The steps of a start."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step]  # noqa: RUF012 - as Celery has it
