import json
import time
from base64 import b64decode
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.process import HUNG_AFTER_S
from worker.core.errors import BrokerError
from worker.core.messages import GradeChunk
from worker.core.messaging import broker as queues
from worker.core.messaging.broker import chunked, make_celery, queue_depth, send_chunk
from worker.core.settings import parse_settings
from worker.core.vocabulary import Queue

UNREACHABLE = "redis://:hunter2@127.0.0.1:1/0"
CHUNK = GradeChunk(run_id=7, image_ids=("left-eye", "right-eye"))


def send(broker_url: str, *, queue: Queue = Queue.BULK) -> None:
    send_chunk(make_celery(parse_settings(broker_url=broker_url)), CHUNK, queue=queue, run_name="july")


def depth(broker_url: str, queue: Queue = Queue.BULK) -> int:
    return queue_depth(make_celery(parse_settings(broker_url=broker_url)), queue)


@pytest.fixture
def proxy(broker_url: str) -> Iterator[FaultProxy]:
    port = urlsplit(broker_url).port
    assert port is not None
    with fault_proxy(port) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(broker_url: str, proxy: FaultProxy) -> str:
    return broker_url.replace(f":{urlsplit(broker_url).port}/", f":{proxy.port}/")


def test_message_is_json_with_ids_only(broker_url: str) -> None:
    send(broker_url)
    with Redis.from_url(broker_url) as broker:
        (message,) = map(json.loads, broker.lrange("bulk", 0, -1))
    arguments, keywords, _ = json.loads(b64decode(message["body"]))
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == "fundus.grade_chunk"
    assert arguments == []
    assert keywords == {"message": {"version": 1, "run_id": 7, "image_ids": ["left-eye", "right-eye"]}}
    assert GradeChunk.decode(keywords["message"]) == CHUNK


def test_flower_shows_run_and_size_of_a_chunk(broker_url: str) -> None:
    send(broker_url)
    with Redis.from_url(broker_url) as broker:
        (message,) = map(json.loads, broker.lrange("bulk", 0, -1))
    assert message["headers"]["argsrepr"] == "()"
    assert message["headers"]["kwargsrepr"] == "run=july, images=2"


def test_queue_depth_counts_the_messages_of_one_queue(broker_url: str) -> None:
    for queue in (Queue.BULK, Queue.BULK, Queue.LIVE):
        send(broker_url, queue=queue)
    assert [depth(broker_url, queue) for queue in (Queue.LIVE, Queue.BULK)] == [1, 2]


def test_consumer_of_bulk_can_send_to_live(broker_url: str) -> None:
    app = make_celery(parse_settings(broker_url=broker_url, queues="bulk"))

    send_chunk(app, CHUNK, queue=Queue.LIVE, run_name="clinic")

    assert [queue_depth(app, queue) for queue in Queue] == [1, 0]


def test_queue_depth_of_an_unreachable_broker_is_a_broker_error() -> None:
    with pytest.raises(BrokerError, match=r"cannot inspect queue bulk: .*Connection refused") as caught:
        depth(UNREACHABLE)
    assert "hunter2" not in caught.value.detail


def test_send_to_an_unreachable_broker_is_a_broker_error() -> None:
    started = time.monotonic()
    with pytest.raises(BrokerError, match="cannot send 2 images of run july to queue live") as caught:
        send(UNREACHABLE, queue=Queue.LIVE)
    assert time.monotonic() - started < HUNG_AFTER_S
    assert "hunter2" not in caught.value.detail


def test_wrong_password_is_a_broker_error(broker_url: str) -> None:
    wrong = f"redis://:hunter2@{broker_url.rpartition('@')[2]}"
    with pytest.raises(BrokerError, match="invalid username-password pair"):
        send(wrong)
    with pytest.raises(BrokerError, match="invalid username-password pair"):
        depth(wrong)


def test_full_broker_is_a_broker_error_until_it_has_memory(broker_url: str) -> None:
    with Redis.from_url(broker_url) as broker:
        broker.config_set("maxmemory", 1)
        try:
            with pytest.raises(BrokerError, match="maxmemory"):
                send(broker_url)
        finally:
            broker.config_set("maxmemory", 0)
    send(broker_url)
    assert depth(broker_url) == 1


def test_lost_connection_is_reopened(behind_proxy: str, proxy: FaultProxy) -> None:
    app = make_celery(parse_settings(broker_url=behind_proxy))
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    proxy.inject(None)
    send_chunk(app, CHUNK, queue=Queue.BULK, run_name="july")
    assert queue_depth(app, Queue.BULK) == 2


def test_silent_broker_is_a_broker_error(behind_proxy: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "SOCKET_TIMEOUT_S", 0.2)
    proxy.inject(Fault("stall"))
    started = time.monotonic()
    with pytest.raises(BrokerError, match="Timeout reading from socket"):
        send(behind_proxy)
    with pytest.raises(BrokerError, match="Timeout reading from socket"):
        depth(behind_proxy)
    # Two attempts to send and four to inspect, with pauses of at most 2 s between the four: 6 s on an idle machine.
    assert time.monotonic() - started < HUNG_AFTER_S


def test_chunks_keep_order_and_every_id() -> None:
    assert chunked(["a", "b", "c", "d", "e"], 2) == [("a", "b"), ("c", "d"), ("e",)]
    assert chunked([], 2) == []
