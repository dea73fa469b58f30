"""Reject invalid messages before a worker acts on them.

Celery runs the check before it hands a message to the pool. A rejected message is logged and acknowledged. Its images
are still queued in the ledger, and the reconciler sends them again in the format of its own version.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError

from worker.core.errors import MessageError
from worker.core.messages import TASK_ID_PATTERN, TRACE_HEADER, TRACE_PATTERN, Duty, GradeChunk, Message, WriteReport
from worker.core.messaging.broker import CLOSE_NIGHTS, GRADE_CHUNK, NIGHTLY, PUBLISH, RETENTION, WRITE_REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BODY_BYTES = 64 * 1024
"""The largest valid chunk, 256 ids of 128 characters, takes 34 kB."""

MESSAGE_TYPES: dict[str, type[Message]] = {
    GRADE_CHUNK: GradeChunk,
    WRITE_REPORT: WriteReport,
    NIGHTLY: Duty,
    CLOSE_NIGHTS: Duty,
    RETENTION: Duty,
    PUBLISH: Duty,
}
"""Message type of each task."""

log = structlog.get_logger(__name__)


def validating_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery strategy: the default one, preceded by `check_message`."""
    accept = default(task, app, consumer, **options)

    def handle(message: Any, *rest: Any, **more: Any) -> Any:
        try:
            check_message(task.name, message)
        except MessageError as error:
            log.error("message_refused", task=task.name, code=error.code, detail=error.detail[:500])  # noqa: TRY400 - one line
            message.ack_log_error(log, consumer.connection_errors)
            return None
        return accept(message, *rest, **more)

    return handle


def check_message(task: str, message: Any) -> None:
    """Check size, headers, arguments and version of a message for `task`.

    Raises MessageError, also for Celery options that no producer of this project uses: ETA, callbacks, chains.
    """
    if len(message.body) > MAX_BODY_BYTES:
        raise MessageError(f"body has {len(message.body)} bytes; the limit is {MAX_BODY_BYTES}", code="message_size")
    if message.headers.get("eta") is not None:
        raise MessageError("message has an ETA; delayed delivery is not supported", code="message_eta")
    _check_headers(message.headers)
    try:
        payload = message.payload
    except (DecodeError, ContentDisallowed, LookupError, ValueError, RecursionError) as error:
        raise MessageError(f"message body of type {message.content_type!r} cannot be decoded: {error}") from error
    match payload:
        case [[], {**keywords}, {**embedded}] if not any(embedded.values()):
            if task in MESSAGE_TYPES and keywords.keys() == {"message"}:
                MESSAGE_TYPES[task].decode(keywords["message"])
                return
            if MESSAGE_TYPES.get(task, Duty) is Duty and not keywords:  # a duty from the beat of version 0.1
                return
    raise MessageError(f"arguments do not match task {task}, or contain callbacks or chains")


def _check_headers(headers: Mapping[str, Any]) -> None:
    """Check the headers that are copied to logs and traces."""
    for name, pattern, required in (("id", TASK_ID_PATTERN, True), (TRACE_HEADER, TRACE_PATTERN, False)):
        value = headers.get(name)
        if not (value is None and not required) and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise MessageError(f"header {name!r} is missing or malformed", code="message_headers")
