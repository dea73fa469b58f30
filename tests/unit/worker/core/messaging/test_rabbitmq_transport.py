"""RabbitMQ: replicated queues, confirmed sends, and malformed messages that no consumer receives."""

import zlib
from collections.abc import Callable
from contextlib import closing
from typing import Any

import amqp
import pytest
from kombu import Consumer
from structlog.testing import capture_logs

from tests.services.rabbitmq import RabbitMQ
from worker.core.errors import BrokerError
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import DELIVERY_LIMIT, broker_queue, make_celery, queue_depth, send_chunk
from worker.core.messaging.redis_transport import MAX_ENVELOPE_BYTES
from worker.core.settings import Settings
from worker.core.vocabulary import Queue

CHUNK = GradeChunk(run_id=7, image_ids=("left-eye", "right-eye"))
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
TASK = {"task": "fundus.grade_chunk", "id": "a"}
HOSTILE: dict[str, amqp.Message] = {
    "not a Celery message": amqp.Message(b"\xff\x00", **JSON),
    "an id that is a number": amqp.Message(b"{}", **JSON, application_headers={**TASK, "id": 7}),
    "a bomb": amqp.Message(zlib.compress(bytes(10**8)), **JSON, application_headers={**TASK, "compression": "gzip"}),
    "too large": amqp.Message(b" " * (MAX_ENVELOPE_BYTES + 1), **JSON, application_headers=TASK),
}


@pytest.fixture
def settings(make_settings: Callable[..., Settings], rabbitmq_url: str) -> Settings:
    return make_settings(broker_url=rabbitmq_url)


def drain(settings: Settings) -> list[str]:
    """Return the ids of the tasks that reach a consumer, up to the task `end`."""
    ids: list[str] = []

    def take(message: Any) -> None:
        ids.append(message.headers["id"])
        message.ack()

    def drop(message: Any, _error: Exception) -> None:
        message.ack()

    app = make_celery(settings)
    connection = app.connection_for_read()
    queues = [broker_queue(app, Queue.BULK)]
    with connection, Consumer(connection, queues, on_message=take, on_decode_error=drop):
        while "end" not in ids:
            connection.drain_events(timeout=60)
    return ids


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_message_is_dropped_and_logged(name: str, settings: Settings, rabbitmq: RabbitMQ) -> None:
    app = make_celery(settings)
    assert queue_depth(app, Queue.BULK) == 0
    with capture_logs() as log, closing(rabbitmq.connect()) as connection, closing(connection.channel()) as channel:
        for message in (HOSTILE[name], amqp.Message(b"{}", **JSON, application_headers={**TASK, "id": "end"})):
            channel.basic_publish(message, "", Queue.BULK)
        assert drain(settings) == ["end"]
    (line,) = log
    assert (line["event"], line["queue"]) == ("message_refused", "bulk")
    assert line["code"] == ("message_size" if name == "too large" else "message_invalid")
    assert len(line["detail"]) <= 500
    assert queue_depth(app, Queue.BULK) == 0


def test_message_is_dropped_after_the_delivery_limit(settings: Settings, rabbitmq: RabbitMQ) -> None:
    send_chunk(make_celery(settings), CHUNK, queue=Queue.BULK, run_name="july")
    deliveries = 0
    with closing(rabbitmq.connect()) as connection, closing(connection.channel()) as channel:
        while (message := channel.basic_get(Queue.BULK)) is not None:
            deliveries += 1
            channel.basic_reject(message.delivery_tag, requeue=True)
    assert deliveries == DELIVERY_LIMIT + 1
    assert message is None


def test_message_that_the_broker_rejects_is_a_broker_error(settings: Settings, rabbitmq: RabbitMQ) -> None:
    """A full queue rejects with a negative confirmation, which is visible only with confirms enabled."""
    app = make_celery(settings)
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")  # the connection remembers that it has declared the queue
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with closing(rabbitmq.connect()) as connection, closing(connection.channel()) as channel:
        channel.queue_delete(Queue.BULK)
        channel.queue_declare(Queue.BULK, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum", **full})
    with pytest.raises(BrokerError, match="cannot send 2 images of run july to queue bulk"):
        send_many(app)


def test_message_to_a_deleted_queue_is_a_broker_error(settings: Settings, rabbitmq: RabbitMQ) -> None:
    app = make_celery(settings)
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    rabbitmq.delete_queues()
    with pytest.raises(BrokerError, match="NO_ROUTE"):
        send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    assert queue_depth(app, Queue.BULK) == 0
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    assert queue_depth(app, Queue.BULK) == 1


def send_many(app: Any) -> None:
    for _ in range(5):
        send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
