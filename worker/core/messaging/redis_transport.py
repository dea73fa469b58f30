"""Kombu's Redis transport, but what is no message of Celery's is logged and dropped: Kombu's own ends the worker.

Whoever can write to the broker can put any bytes on a queue. What they stood for is still queued in the ledger.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import structlog
from kombu.transport import redis
from kombu.utils.json import loads
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from redis import Redis

from worker.core.vocabulary import Queue

MAX_ENVELOPE_BYTES = 256 * 1024
"""A body of 64 KiB in base64, and more room around it than Celery takes."""

UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What parsing arbitrary bytes, with Kombu's decoders of dates, numbers and UUIDs, can raise."""

log = structlog.get_logger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Destination(_Part):
    exchange: str
    routing_key: str


class _Properties(_Part):
    delivery_tag: str
    delivery_info: _Destination
    body_encoding: Literal["base64"]
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None


class Headers(_Part):
    """Of any message."""

    compression: None = None
    """A few bytes could become gigabytes."""


class TaskHeaders(Headers):
    """Of a task; what they may hold is for the gate to say."""

    task: str
    id: str
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    retries: int | None = None
    expires: str | None = None
    ignore_result: bool | None = None
    timelimit: list[float | None] | None = Field(default=None, min_length=2, max_length=2)
    stamped_headers: None = None
    traceparent: str | None = None


def _decodable(body: str) -> str:
    base64.b64decode(body)
    return body


class _Envelope(_Part):
    body: Annotated[str, AfterValidator(_decodable)]
    properties: _Properties
    headers: Headers
    content_type: str = Field(alias="content-type")
    content_encoding: str = Field(alias="content-encoding")


class _TaskEnvelope(_Envelope):
    headers: TaskHeaders


class _Client(Redis):
    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """As the server answers, but as if a queue had been empty when what it held cannot be read."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and answer is not None and not _is_readable(*answer):
            return None
        return answer


class _QoS(redis.QoS):  # type: ignore[misc]
    def restore_by_tag(self, tag: bytes, client: Any = None, **more: Any) -> None:
        """Put an unacknowledged message back on its queue, unless it cannot be read."""
        try:
            super().restore_by_tag(tag, client, **more)
        except UNREADABLE as error:
            refuse("unacked", "message_invalid", repr(error))
            self._remove_from_indices(tag).execute()


class Channel(redis.Channel):  # type: ignore[misc]
    """Takes tasks from queues, and broadcasts from the others."""

    QoS = _QoS
    _sender: Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Redis:  # noqa: FBT001, FBT002 - as Kombu has it
        """One client for all messages; Kombu makes one for each, which is a quarter of the work of sending it."""
        if asynchronous:
            polled: Redis = super()._create_client(asynchronous)
            return polled
        if self._sender is None or self._sender.connection_pool is not self.pool:
            self._sender = super()._create_client()
        return self._sender

    def _get_client(self) -> type[Redis]:
        super()._get_client()
        return _Client

    def _deliver_fanout_message(self, message: object, exchange: str) -> bool:
        try:
            _Envelope.model_validate(message)
        except ValidationError as error:
            refuse(exchange, "message_invalid", first_of(error))
            return False
        return bool(super()._deliver_fanout_message(message, exchange))


class Transport(redis.Transport):  # type: ignore[misc]
    """For `redis://` and `rediss://`."""

    Channel = Channel


def _is_readable(key: bytes, item: bytes) -> bool:
    queue = key.decode().partition(redis.Channel.sep)[0]  # the rest is the priority
    # The other queues are for the answers of workers to Flower.
    form = _TaskEnvelope if queue in set(Queue) else _Envelope
    if len(item) > MAX_ENVELOPE_BYTES:
        refuse(queue, "message_size", f"{len(item)} bytes, the limit is {MAX_ENVELOPE_BYTES}")
        return False
    try:
        form.model_validate(loads(item))
    except ValidationError as error:
        refuse(queue, "message_invalid", first_of(error))
    except UNREADABLE as error:
        refuse(queue, "message_invalid", f"{len(item)} bytes that are no JSON: {type(error).__name__}")
    else:
        return True
    return False


def refuse(queue: str, code: str, detail: str) -> None:
    """Say that a message is dropped, and why."""
    log.error("message_refused", queue=queue, code=code, detail=detail[:500])


def first_of(error: ValidationError) -> str:
    """Where and what the first fault is; what was found there is not repeated."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'envelope'}: {first['msg']}"
