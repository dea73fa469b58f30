"""Kombu transport for RabbitMQ that logs and drops malformed messages before anything decodes them."""

from __future__ import annotations

from typing import Any

from kombu.exceptions import DecodeError
from kombu.transport import pyamqp
from pydantic import ValidationError

from worker.core.messaging.redis_transport import (
    MAX_ENVELOPE_BYTES,
    Headers,
    TaskHeaders,
    describe_first_error,
    log_refused_message,
)
from worker.core.vocabulary import TASK_QUEUES


class Message(pyamqp.Message):  # type: ignore[misc]
    """A received message. A malformed one is emptied, and the consumer acknowledges it."""

    def __init__(self, raw: Any, channel: Any = None, **kwargs: Any) -> None:
        queue = str(raw.delivery_info.get("routing_key"))
        error = _find_error(raw, is_task=queue in TASK_QUEUES)
        if error is not None:
            log_refused_message(queue, *error)
            self.errors = [(DecodeError, DecodeError(error[0]), None)]
        super().__init__(raw, channel=channel, **kwargs)
        if error is not None:
            self.body = b""
            self.headers.clear()


class Channel(pyamqp.Channel):  # type: ignore[misc]
    """Channel that receives validated messages."""

    Message = Message


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """Connection with validating channels."""

    Channel = Channel


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """Transport for `amqp://`."""

    Connection = Connection


class SecureTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """Transport for `amqps://`."""

    Connection = Connection


def _find_error(raw: Any, *, is_task: bool) -> tuple[str, str] | None:
    """Return code and detail of the first error of a message, or None."""
    if len(raw.body) > MAX_ENVELOPE_BYTES:
        return "message_size", f"{len(raw.body)} bytes, the limit is {MAX_ENVELOPE_BYTES}"
    schema = TaskHeaders if is_task else Headers
    try:
        schema.model_validate(raw.properties.get("application_headers") or {})
    except ValidationError as error:
        return "message_invalid", describe_first_error(error)
    return None
