"""Refuse what is no message of ours before anything in the worker acts on it.

Celery runs this where it would hand a message to the pool. A refused message is logged and acknowledged: what it stood
for is still queued in the ledger, and the reconciler sends it in a form that this version understands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError

from worker.core.errors import MessageError
from worker.core.messages import TASK_ID_PATTERN, TRACE_HEADER, TRACE_PATTERN, GradeChunk, Message, WriteReport
from worker.core.messaging.broker import GRADE_CHUNK, WRITE_REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BODY_BYTES = 64 * 1024
"""The longest chunk, 256 ids of 128 characters, takes 34 kB."""

MESSAGE_TYPES: dict[str, type[Message]] = {GRADE_CHUNK: GradeChunk, WRITE_REPORT: WriteReport}
"""Of the tasks that take one."""

log = structlog.get_logger(__name__)


def validating_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """A Celery strategy: the default one, behind `check_message`."""
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
    """Raises MessageError unless the message is small, of this version, and asks for this task and nothing beside."""
    if len(message.body) > MAX_BODY_BYTES:
        raise MessageError(f"a body of {len(message.body)} bytes, the limit is {MAX_BODY_BYTES}", code="message_size")
    if message.headers.get("eta") is not None:
        raise MessageError("asks to be done later", code="message_eta")
    _check_headers(message.headers)
    try:
        payload = message.payload
    except (DecodeError, ContentDisallowed, LookupError, ValueError, RecursionError) as error:
        raise MessageError(f"a body of type {message.content_type!r} cannot be read: {error}") from error
    match payload:
        case [[], {**keywords}, {**embedded}] if not any(embedded.values()):
            if task in MESSAGE_TYPES and keywords.keys() == {"message"}:
                MESSAGE_TYPES[task].decode(keywords["message"])
                return
            if task not in MESSAGE_TYPES and not keywords:
                return
    raise MessageError("asks for more than its task, or with other arguments")


def _check_headers(headers: Mapping[str, Any]) -> None:
    """Of what goes on into logs and traces."""
    for name, pattern, needed in (("id", TASK_ID_PATTERN, True), (TRACE_HEADER, TRACE_PATTERN, False)):
        value = headers.get(name)
        if not (value is None and not needed) and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise MessageError(f"has a header {name} that is none", code="message_headers")
