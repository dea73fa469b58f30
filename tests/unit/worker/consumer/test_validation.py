"""Messages of the project pass validation as they arrive from a real broker; others are rejected."""

from datetime import date
from typing import Any

import pytest

from worker.consumer.validation import MAX_BODY_BYTES, check_message
from worker.core.errors import MessageError
from worker.core.messages import MAX_CHUNK_IMAGES, Duty, GradeChunk
from worker.core.messaging.broker import (
    CLOSE_NIGHTS,
    GRADE_CHUNK,
    NIGHTLY,
    RETENTION,
    WRITE_REPORT,
    make_celery,
    send_chunk,
    send_report,
)
from worker.core.settings import parse_settings
from worker.core.vocabulary import Queue

LONGEST = GradeChunk(run_id=2**63 - 1, image_ids=tuple(f"{number:x<128}" for number in range(MAX_CHUNK_IMAGES)))


def receive(broker_url: str, send: Any) -> Any:
    """Return the message that `send` put on the queue, as received from the broker."""
    app = make_celery(parse_settings(broker_url=broker_url))
    send(app)
    with app.connection_for_read() as connection, connection.SimpleQueue(str(Queue.BULK)) as queue:
        message = queue.get(timeout=60)
        message.ack()
        return message


def test_longest_chunk_passes(broker_url: str) -> None:
    message = receive(broker_url, lambda app: send_chunk(app, LONGEST, queue=Queue.BULK, run_name="night"))
    assert MAX_BODY_BYTES / 2 < len(message.body) <= MAX_BODY_BYTES
    check_message(GRADE_CHUNK, message)


@pytest.mark.parametrize("task", [NIGHTLY, CLOSE_NIGHTS, RETENTION])
@pytest.mark.parametrize("keywords", [{}, {"message": Duty(date=date(2026, 3, 29)).encode()}])
def test_duty_passes_with_its_date_and_without(broker_url: str, task: str, keywords: dict[str, Any]) -> None:
    check_message(task, receive(broker_url, lambda app: app.send_task(task, kwargs=keywords, queue="bulk")))


def test_duty_with_an_invalid_date_is_rejected(broker_url: str) -> None:
    keywords = {"message": {"version": 1, "date": "tonight"}}
    message = receive(broker_url, lambda app: app.send_task(NIGHTLY, kwargs=keywords, queue="bulk"))
    with pytest.raises(MessageError, match="date: Input should be a valid date"):
        check_message(NIGHTLY, message)


def test_report_passes_only_as_a_report(broker_url: str) -> None:
    message = receive(broker_url, lambda app: send_report(app, 7, run_name="night"))
    check_message(WRITE_REPORT, message)
    for task in (GRADE_CHUNK, NIGHTLY):
        with pytest.raises(MessageError):
            check_message(task, message)


def test_chunk_is_rejected_as_a_nightly_task(broker_url: str) -> None:
    message = receive(broker_url, lambda app: send_chunk(app, LONGEST, queue=Queue.BULK, run_name="night"))
    with pytest.raises(MessageError, match="date: Field required"):
        check_message(NIGHTLY, message)


def test_message_with_an_eta_is_rejected(broker_url: str) -> None:
    message = receive(broker_url, lambda app: app.send_task(NIGHTLY, queue="bulk", countdown=3600))
    with pytest.raises(MessageError, match="message has an ETA"):
        check_message(NIGHTLY, message)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("id", "end"),
        ("id", None),
        ("id", "x" * 100_000),
        ("id", "6d4c3a0e-2b1f-4c1e-9a51-0123456789ab\n"),
        ("traceparent", ""),
        ("traceparent", 7),
        ("traceparent", "01-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01-more"),
        ("traceparent", "00-" + "a" * 31 + "\n-" + "b" * 16 + "-01"),
    ],
)
def test_malformed_header_is_rejected(broker_url: str, header: str, value: object) -> None:
    message = receive(broker_url, lambda app: app.send_task(NIGHTLY, queue="bulk"))
    message.headers[header] = value
    with pytest.raises(MessageError, match=f"header '{header}' is missing or malformed") as rejected:
        check_message(NIGHTLY, message)
    assert rejected.value.code == "message_headers"


def test_trace_of_the_sender_passes(broker_url: str) -> None:
    trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    check_message(NIGHTLY, receive(broker_url, lambda app: app.send_task(NIGHTLY, queue="bulk", headers=trace)))
