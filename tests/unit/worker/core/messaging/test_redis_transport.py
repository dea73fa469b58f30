"""On a real broker: malformed messages are dropped, and neither reach a consumer nor end it."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from kombu import Consumer
from kombu import Queue as KombuQueue
from redis import Redis
from structlog.testing import capture_logs

from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery, send_chunk
from worker.core.messaging.redis_transport import MAX_ENVELOPE_BYTES
from worker.core.settings import Settings
from worker.core.vocabulary import Queue

CHUNK = GradeChunk(run_id=1, image_ids=("eye",))
DEEP = 100_000


def changed(envelope: dict[str, Any], place: str, value: object) -> bytes:
    """Return the envelope with another value at a dotted path such as `properties.delivery_tag`."""
    *path, last = place.split(".")
    copy = json.loads(json.dumps(envelope))
    part = copy
    for name in path:
        part = part[name]
    part[last] = value
    return json.dumps(copy).encode()


def without(envelope: dict[str, Any], name: str) -> bytes:
    return json.dumps({key: value for key, value in envelope.items() if key != name}).encode()


HOSTILE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "no bytes": lambda _: b"",
    "no JSON": lambda _: b"\x80\x04\x95K\x00",
    "no UTF-8": lambda _: b'{"body": "\xff"}',
    "half a message": lambda good: json.dumps(good).encode()[:-40],
    "a number": lambda _: b"7",
    "a number of 5,000 digits": lambda _: b"7" * 5_000,
    "null": lambda _: b"null",
    "a list": lambda _: b"[1]",
    "nested too deep": lambda _: b"[" * DEEP + b"]" * DEEP,
    "an unknown type": lambda _: b'{"__type__": "os.system", "__value__": "id"}',
    "an invalid date": lambda _: b'{"__type__": "datetime", "__value__": 7}',
    "an invalid decimal": lambda _: b'{"__type__": "decimal", "__value__": "x"}',
    "a type that is a list": lambda _: b'{"__type__": [], "__value__": "x"}',
    "too large": lambda good: changed(good, "body", "A" * MAX_ENVELOPE_BYTES),
    "no body": lambda good: without(good, "body"),
    "no properties": lambda good: without(good, "properties"),
    "no headers": lambda good: without(good, "headers"),
    "no content type": lambda good: without(good, "content-type"),
    "a body that is an object": lambda good: changed(good, "body", {}),
    "an invalid base64 body": lambda good: changed(good, "body", "A"),
    "a body outside ASCII": lambda good: changed(good, "body", "é"),
    "another encoding": lambda good: changed(good, "properties.body_encoding", "rot13"),
    "an encoding that is a list": lambda good: changed(good, "properties.body_encoding", []),
    "a tag that is a list": lambda good: changed(good, "properties.delivery_tag", [1]),
    "no destination": lambda good: changed(good, "properties.delivery_info", None),
    "a destination without a name": lambda good: changed(good, "properties.delivery_info", {}),
    "headers that are a list": lambda good: changed(good, "headers", []),
    "a task that is a list": lambda good: changed(good, "headers.task", []),
    "an id that is an object": lambda good: changed(good, "headers.id", {}),
    "no time limits": lambda good: changed(good, "headers.timelimit", []),
    "retries that are words": lambda good: changed(good, "headers.retries", "many"),
    "a compressed body": lambda good: changed(good, "headers.compression", "application/x-bz2"),
    "a type of content that is a number": lambda good: changed(good, "content-type", 7),
}


@pytest.fixture
def settings(make_settings: Callable[..., Settings], broker_url: str) -> Settings:
    return make_settings(broker_url=broker_url)


def drain(settings: Settings) -> list[str]:
    """Return the ids of the tasks that reach a consumer, up to the task `end`."""
    ids: list[str] = []

    def take(message: Any) -> None:
        ids.append(message.headers["id"])
        message.ack()

    connection = make_celery(settings).connection_for_read()
    with connection, Consumer(connection, [KombuQueue(Queue.BULK)], on_message=take):
        while "end" not in ids:
            connection.drain_events(timeout=60)
    return ids


def envelope(settings: Settings, broker: "Redis") -> dict[str, Any]:
    """Return a message as a producer sends it."""
    send_chunk(make_celery(settings), CHUNK, queue=Queue.BULK, run_name="night")
    (item,) = broker.lrange(Queue.BULK, 0, -1)
    broker.delete(Queue.BULK)
    read: dict[str, Any] = json.loads(item)
    return read


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_message_is_dropped_with_one_log_line(name: str, settings: Settings, broker_url: str) -> None:
    with Redis.from_url(broker_url) as broker, capture_logs() as log:
        good = envelope(settings, broker)
        broker.lpush(Queue.BULK, HOSTILE[name](good), changed(good, "headers.id", "end"))
        assert drain(settings) == ["end"]
        assert broker.llen(Queue.BULK) == 0
        assert broker.hlen("unacked") == 0
    (line,) = log
    assert (line["event"], line["queue"]) == ("message_refused", "bulk")
    assert line["code"] == ("message_size" if name == "too large" else "message_invalid")
    assert len(line["detail"]) <= 500


def test_message_of_the_largest_chunk_is_accepted(settings: Settings, broker_url: str) -> None:
    chunk = GradeChunk(run_id=2**63 - 1, image_ids=tuple(f"{number:0128}" for number in range(256)))
    with Redis.from_url(broker_url) as broker, capture_logs() as log:
        good = envelope(settings, broker)
        send_chunk(make_celery(settings), chunk, queue=Queue.BULK, run_name="night")
        broker.lpush(Queue.BULK, changed(good, "headers.id", "end"))
        assert len(drain(settings)) == 2
    assert log == []


def test_one_client_sends_all_messages_until_its_pool_is_closed(settings: Settings) -> None:
    with make_celery(settings).connection_for_write() as connection:
        channel = connection.default_channel
        first = channel._create_client()
        assert channel._create_client() is first
        assert channel._create_client(asynchronous=True) is not first
        channel._disconnect_pools()
        assert channel._create_client() is not first


def test_malformed_unacknowledged_message_is_dropped(settings: Settings, broker_url: str) -> None:
    with Redis.from_url(broker_url) as broker, capture_logs() as log:
        good = envelope(settings, broker)
        for tag, kept in {"torn": b"[", "short": b"[1]", "whole": json.dumps([good, "", "bulk"]).encode()}.items():
            broker.hset("unacked", tag, kept)
            broker.zadd("unacked_index", {tag: 0})
        with make_celery(settings).connection_for_read() as connection:
            connection.default_channel.qos.restore_visible()
        assert broker.hlen("unacked") == broker.zcard("unacked_index") == 0
        assert broker.llen(Queue.BULK) == 1
    assert [line["queue"] for line in log] == ["unacked", "unacked"]


def test_malformed_broadcast_is_dropped(settings: Settings, broker_url: str) -> None:
    received: list[Any] = []
    app = make_celery(settings)
    with Redis.from_url(broker_url) as broker, capture_logs() as log, app.connection_for_read() as given:
        receiver = app.events.Receiver(given, handlers={"*": received.append})
        with receiver.consumer_context() as (connection, *_):
            with suppress(TimeoutError):  # the first call subscribes
                connection.drain_events(timeout=0.2)
            broker.publish("/0.celeryev/worker.online", json.dumps([1]))
            broker.publish("/0.celeryev/worker.online", json.dumps({"properties": 7}))
            with app.events.default_dispatcher() as dispatcher:
                dispatcher.send("worker-online")
            while not received:
                connection.drain_events(timeout=60)
    assert [event["type"] for event in received] == ["worker-online"]
    assert [line["queue"] for line in log] == ["celeryev", "celeryev"]
