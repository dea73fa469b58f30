"""Kombu transport for Redis that logs and drops malformed messages.

Any client of the broker can put arbitrary bytes on a queue, and with Kombu's own transport they end the worker. The
images of a dropped message are still queued in the ledger.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import structlog
from kombu.transport import redis
from kombu.utils.json import loads
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from redis import Redis

from worker.core.vocabulary import TASK_QUEUES

MAX_ENVELOPE_BYTES = 256 * 1024
"""Limit of a message: a body of 64 KiB in base64, and more than Celery needs around it."""

PARSE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""Exceptions that parsing arbitrary bytes with Kombu's JSON decoders can raise."""

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
    """Headers of any message. Compression is refused: a few bytes could become gigabytes."""

    compression: None = None


class TaskHeaders(Headers):
    """Headers of a task. `worker.consumer.validation` checks their values."""

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


def _check_base64(body: str) -> str:
    base64.b64decode(body)
    return body


class _Envelope(_Part):
    body: Annotated[str, AfterValidator(_check_base64)]
    properties: _Properties
    headers: Headers
    content_type: str = Field(alias="content-type")
    content_encoding: str = Field(alias="content-encoding")


class _TaskEnvelope(_Envelope):
    headers: TaskHeaders


class _Client(Redis):
    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Parse a response; a malformed message is dropped and reported as an empty queue."""
        response = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and response is not None and not _is_valid(*response):
            return None
        return response


class _QoS(redis.QoS):  # type: ignore[misc]
    def restore_by_tag(self, tag: bytes, client: Any = None, **kwargs: Any) -> None:
        """Put an unacknowledged message back on its queue; drop it if it is malformed."""
        try:
            super().restore_by_tag(tag, client, **kwargs)
        except PARSE_ERRORS as error:
            log_refused_message("unacked", "message_invalid", repr(error))
            self._remove_from_indices(tag).execute()


class Channel(redis.Channel):  # type: ignore[misc]
    """Channel that validates tasks and broadcasts."""

    QoS = _QoS
    _client_for_sending: Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Redis:  # noqa: FBT001, FBT002 - Kombu's signature
        """Reuse one client for sending; Kombu makes one for each message, a quarter of the cost of sending it."""
        if asynchronous:
            polled: Redis = super()._create_client(asynchronous)
            return polled
        if self._client_for_sending is None or self._client_for_sending.connection_pool is not self.pool:
            self._client_for_sending = super()._create_client()
        return self._client_for_sending

    def _get_client(self) -> type[Redis]:
        super()._get_client()
        return _Client

    def _deliver_fanout_message(self, message: object, exchange: str) -> bool:
        try:
            _Envelope.model_validate(message)
        except ValidationError as error:
            log_refused_message(exchange, "message_invalid", describe_first_error(error))
            return False
        return bool(super()._deliver_fanout_message(message, exchange))


class Transport(redis.Transport):  # type: ignore[misc]
    """Transport for `redis://` and `rediss://`."""

    Channel = Channel


def _is_valid(key: bytes, item: bytes) -> bool:
    queue = key.decode().partition(redis.Channel.sep)[0]  # the rest is the priority
    # The other queues carry the replies of workers to Flower.
    schema = _TaskEnvelope if queue in TASK_QUEUES else _Envelope
    if len(item) > MAX_ENVELOPE_BYTES:
        log_refused_message(queue, "message_size", f"{len(item)} bytes, the limit is {MAX_ENVELOPE_BYTES}")
        return False
    try:
        schema.model_validate(loads(item))
    except ValidationError as error:
        log_refused_message(queue, "message_invalid", describe_first_error(error))
    except PARSE_ERRORS as error:
        log_refused_message(queue, "message_invalid", f"{len(item)} bytes are not valid JSON: {type(error).__name__}")
    else:
        return True
    return False


def log_refused_message(queue: str, code: str, detail: str) -> None:
    """Log that a message is dropped, and why."""
    log.error("message_refused", queue=queue, code=code, detail=detail[:500])


def describe_first_error(error: ValidationError) -> str:
    """Return field and message of the first validation error, without the rejected value."""
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'envelope'}: {first['msg']}"
