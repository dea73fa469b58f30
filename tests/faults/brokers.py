"""Brokers of the fault tests: server process, address, and access to the queued messages."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import amqp
import pytest
from redis import Redis

from tests.faults.servers import Daemon, make_valkey
from tests.services.rabbitmq import RabbitMQ, why_unavailable

QUEUE = "bulk"


@dataclass(frozen=True)
class QueuedMessage:
    """A queued message: its JSON body and the envelope of the broker."""

    body: bytes
    envelope: Any

    def of_version(self, version: int) -> "QueuedMessage":
        arguments, named, options = json.loads(self.body)
        named["message"]["version"] = version
        return replace(self, body=json.dumps([arguments, named, options]).encode())


Change = Callable[[Sequence[QueuedMessage]], Sequence[QueuedMessage]]


class Broker(Protocol):
    """Interface of both brokers; `daemon` is the server process."""

    name: str
    daemon: Daemon

    def url(self, port: int) -> str:
        """Return the broker URL behind a proxy on this port of 127.0.0.1."""

    def empty(self) -> None:
        """Delete all queued messages."""

    def rewrite(self, change: Change) -> None:
        """Replace the queued messages, at least three, by the result of `change`."""


class Valkey:
    """Valkey, with messages in a list."""

    name = "Valkey"

    def __init__(self, folder: Path) -> None:
        self.daemon = make_valkey(folder)

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def empty(self) -> None:
        with Redis(port=self.daemon.port) as client:
            client.flushall()

    def rewrite(self, change: Change) -> None:
        with Redis(port=self.daemon.port) as client:
            envelopes = [json.loads(message) for message in client.lrange(QUEUE, 0, -1)]
            assert len(envelopes) > 2
            messages = change([QueuedMessage(b64decode(envelope["body"]), envelope) for envelope in envelopes])
            client.delete(QUEUE)
            client.rpush(
                QUEUE,
                *(json.dumps({**queued.envelope, "body": b64encode(queued.body).decode()}) for queued in messages),
            )


class Rabbit:
    """RabbitMQ, over AMQP."""

    name = "RabbitMQ"

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        if (reason := why_unavailable()) is not None:
            pytest.skip(reason)
        self._server = RabbitMQ(folder)
        cleanup.callback(self._server.stop)
        self.daemon = Daemon(self._server.port, self._server.launch, lambda _: self._server.wait())

    def url(self, port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}//"

    def empty(self) -> None:
        with closing(self._server.connect()) as connection, closing(connection.channel()) as channel:
            for queue in ("live", QUEUE):
                channel.queue_purge(queue)

    def rewrite(self, change: Change) -> None:
        with closing(self._server.connect()) as connection, closing(connection.channel()) as channel:
            received = []
            while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
                received.append(QueuedMessage(_bytes(message.body), message.properties))
            assert len(received) > 2
            for queued in change(received):
                channel.basic_publish(amqp.Message(queued.body, **queued.envelope), "", QUEUE)


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def make_broker(name: str, folder: Path, cleanup: ExitStack) -> Broker:
    """Start `valkey` or `rabbitmq`; skip the test if it is not installed."""
    return Rabbit(folder, cleanup) if name == "rabbitmq" else Valkey(folder)
