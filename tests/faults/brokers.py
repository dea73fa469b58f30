"""The brokers that faults happen to: how to harm each, and how to change what waits on it."""

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
from tests.services.rabbitmq import RabbitMQ, missing

QUEUE = "bulk"


@dataclass(frozen=True)
class QueuedMessage:
    """A message that waits: its JSON, and what its broker keeps around that."""

    body: bytes
    envelope: Any

    def of_version(self, version: int) -> "QueuedMessage":
        arguments, named, options = json.loads(self.body)
        named["message"]["version"] = version
        return replace(self, body=json.dumps([arguments, named, options]).encode())


Change = Callable[[Sequence[QueuedMessage]], Sequence[QueuedMessage]]


class Broker(Protocol):
    """One of them; `daemon` is its server."""

    name: str
    daemon: Daemon

    def url(self, port: int) -> str:
        """Its address behind a proxy on this port of loopback."""

    def empty(self) -> None:
        """Forget all that waits."""

    def rewrite(self, change: Change) -> None:
        """Replace what waits; at least three messages do."""


class Valkey:
    """The first broker."""

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
    """The second one."""

    name = "RabbitMQ"

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        if (reason := missing()) is not None:
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
            waiting = []
            while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
                waiting.append(QueuedMessage(_bytes(message.body), message.properties))
            assert len(waiting) > 2
            for queued in change(waiting):
                channel.basic_publish(amqp.Message(queued.body, **queued.envelope), "", QUEUE)


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def make_broker(name: str, folder: Path, cleanup: ExitStack) -> Broker:
    """`valkey` or `rabbitmq`; skips the test where it cannot be had."""
    return Rabbit(folder, cleanup) if name == "rabbitmq" else Valkey(folder)
