"""Kombu's transport for RabbitMQ, but what is no message of Celery's is logged and dropped, unpacked by nobody."""

from __future__ import annotations

from typing import Any

from kombu.exceptions import DecodeError
from kombu.transport import pyamqp
from pydantic import ValidationError

from worker.core.messaging.redis_transport import MAX_ENVELOPE_BYTES, Headers, TaskHeaders, first_of, refuse
from worker.core.vocabulary import Queue


class Message(pyamqp.Message):  # type: ignore[misc]
    """One that arrives; what cannot be read is empty, and the consumer acknowledges it."""

    def __init__(self, raw: Any, channel: Any = None, **more: Any) -> None:
        queue = str(raw.delivery_info.get("routing_key"))
        fault = _fault_of(raw, is_task=queue in set(Queue))
        if fault is not None:
            refuse(queue, *fault)
            self.errors = [(DecodeError, DecodeError(fault[0]), None)]
        super().__init__(raw, channel=channel, **more)
        if fault is not None:
            self.body = b""
            self.headers.clear()


class Channel(pyamqp.Channel):  # type: ignore[misc]
    """Where messages arrive."""

    Message = Message


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """To the broker."""

    Channel = Channel


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """For `amqp://`."""

    Connection = Connection


class SecureTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """For `amqps://`."""

    Connection = Connection


def _fault_of(raw: Any, *, is_task: bool) -> tuple[str, str] | None:
    """The code and the detail of what is wrong with a message, if anything is."""
    if len(raw.body) > MAX_ENVELOPE_BYTES:
        return "message_size", f"{len(raw.body)} bytes, the limit is {MAX_ENVELOPE_BYTES}"
    form = TaskHeaders if is_task else Headers
    try:
        form.model_validate(raw.properties.get("application_headers") or {})
    except ValidationError as error:
        return "message_invalid", first_of(error)
    return None
