"""The reconciler resends, quarantines and finishes, on real servers."""

import json
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import Engine, delete, insert, select, update

from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, add_run, change, graded, lease, overdue, row, run_row
from worker.core.errors import StorageError
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery, queue_depth, send_chunk
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Queue
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.leases import renew_lease, settle_chunk
from worker.ledger.schema import locks, reports
from worker.maintenance.reconciler import ReconcileResult, reconcile


@pytest.fixture
def settings(broker_url: str) -> Settings:
    return parse_settings(broker_url=broker_url)


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_celery(settings)


@pytest.fixture
def sent(broker_url: str) -> Callable[[], list[list[str]]]:
    """Remove the messages from the bulk queue; return the image ids of each, oldest first."""

    def take() -> list[list[str]]:
        broker = Redis.from_url(broker_url)
        chunks = []
        while (message := broker.rpop("bulk")) is not None:
            _, kwargs, _ = json.loads(b64decode(json.loads(message)["body"]))
            chunks.append(kwargs["message"]["image_ids"])
        return chunks

    return take


@pytest.fixture
def run(engine: Engine) -> int:
    add_model(engine)
    return add_run(engine, ["a", "b", "c"])


@pytest.fixture(autouse=True)
def _lock(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(locks).values(name="reconciler", holder="me", until=epoch_now() + 60))


def run_pass(engine: Engine, app: Celery, settings: Settings, holder: str = "me") -> ReconcileResult | None:
    return reconcile(engine, app, settings, holder=holder)


def test_rows_that_are_not_due_are_not_changed(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert sent() == []


def test_lost_images_are_resent_in_chunks(engine: Engine, run: int, app: Celery, settings: Settings, sent: Any) -> None:
    overdue(engine, "a", "b", "c")
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=3)
    assert sent() == [["a", "b"], ["c"]]
    assert run_pass(engine, app, settings) == ReconcileResult()


def test_images_with_a_message_in_the_queue_are_not_resent(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    send_chunk(app, GradeChunk(run_id=run, image_ids=("a", "b", "c")), queue=Queue.BULK, run_name="night")
    overdue(engine, "a", "b", "c")
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert sent() == [["a", "b", "c"]]
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=3)


def test_images_of_a_dead_worker_are_resent_one_by_one(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    lease(engine, run, "a", "b")
    overdue(engine, "a", "b")
    assert run_pass(engine, app, settings) == ReconcileResult(sent_alone=2)
    assert sent() == [["a"], ["b"]]
    assert row(engine, "a").lease_token is None


def test_images_of_a_live_worker_are_not_resent(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    lease(engine, run, "a", "b")
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert sent() == []


def test_image_that_a_service_failed_is_resent_although_its_queue_is_not_empty(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    held = lease(engine, run, "a")
    settle_chunk(engine, held, [], {"a": StorageError("down")}, model_id=MODEL, retry_after_s=60)
    send_chunk(app, GradeChunk(run_id=run, image_ids=("b", "c")), queue=Queue.BULK, run_name="night")
    assert run_pass(engine, app, settings) == ReconcileResult()
    overdue(engine, "a")
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["b", "c"], ["a"]]


def test_image_without_attempts_left_is_quarantined_and_its_run_finishes(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    held = lease(engine, run, "b", "c")
    settle_chunk(engine, held, [graded("b"), graded("c")], {}, model_id=MODEL, retry_after_s=60)
    for attempt in range(3):
        assert len(lease(engine, run, "a").images) == 1
        overdue(engine, "a")
        expected = ReconcileResult(sent_alone=1) if attempt < 2 else ReconcileResult(quarantined=1, finished=1)
        assert run_pass(engine, app, settings) == expected
    a = row(engine, "a")
    assert (a.status, a.error_code, a.attempts, a.lease_token) == ("quarantined", "attempts_exhausted", 3, None)
    assert run_row(engine, run).state == "finished"
    assert sent() == [["a"], ["a"]]


def test_queued_images_of_a_cancelled_run_are_cancelled(
    engine: Engine, app: Celery, settings: Settings, sent: Any
) -> None:
    add_model(engine)
    add_run(engine, ["a"], state="cancelled")
    overdue(engine, "a")
    assert run_pass(engine, app, settings) == ReconcileResult(cancelled=1)
    assert row(engine, "a").status == "cancelled"
    assert sent() == []


def test_run_whose_last_worker_died_before_finishing_it_is_finished(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    held = lease(engine, run, "a", "b", "c")
    settle_chunk(engine, held, [graded(i) for i in "abc"], {}, model_id=MODEL, retry_after_s=60)
    assert run_pass(engine, app, settings) == ReconcileResult(finished=1)
    assert run_row(engine, run).finished_at is not None


def test_finished_run_with_queued_images_is_reopened_and_finishes_after_them(
    engine: Engine, app: Celery, settings: Settings, sent: Any
) -> None:
    add_model(engine)
    run_id = add_run(engine, ["a"], state="finished", finished_at=datetime.now(UTC))
    assert run_pass(engine, app, settings) == ReconcileResult()
    overdue(engine, "a")
    assert run_pass(engine, app, settings) == ReconcileResult(reopened=1, sent_again=1)
    assert sent() == [["a"]]
    assert (run_row(engine, run_id).state, run_row(engine, run_id).finished_at) == ("running", None)
    settle_chunk(engine, lease(engine, run_id, "a"), [graded("a")], {}, model_id=MODEL, retry_after_s=60)
    assert run_pass(engine, app, settings) == ReconcileResult(finished=1)


def test_one_worker_at_a_time_reconciles(engine: Engine, run: int, app: Celery, settings: Settings) -> None:
    assert run_pass(engine, app, settings, "me") is not None
    assert run_pass(engine, app, settings, "second") is None
    assert run_pass(engine, app, settings, "me") is not None
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(until=epoch_now() - 1))
    assert run_pass(engine, app, settings, "second") is not None
    assert run_pass(engine, app, settings, "me") is None


def test_first_pass_after_acquiring_the_lock_does_nothing(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    """The ledger was unavailable for longer than a lease, and the holder of the image is about to renew it."""
    held = lease(engine, run, "a")
    overdue(engine, "a")
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(until=epoch_now() - 1))
    assert run_pass(engine, app, settings) == ReconcileResult()
    renew_lease(engine, held, lease_s=60)
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert row(engine, "a").lease_token == held.token


def test_first_pass_in_a_new_ledger_does_nothing(engine: Engine, run: int, app: Celery, settings: Settings) -> None:
    with write_transaction(engine) as connection:
        connection.execute(delete(locks))
    overdue(engine, "a")
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=1)


def test_lock_of_a_dead_worker_is_free_after_three_passes(
    engine: Engine, run: int, app: Celery, broker_url: str
) -> None:
    settings = parse_settings(broker_url=broker_url, reconcile_every_s=1_000)
    assert run_pass(engine, app, settings, "me") is not None
    assert run_pass(engine, app, settings, "alive") is None
    with write_transaction(engine) as connection:
        remaining_s = connection.scalar(select(locks.c.until - epoch_now()).where(locks.c.holder == "me"))
        assert 2_000 < remaining_s <= 3_000
        connection.execute(update(locks).values(until=epoch_now() - 1))
    assert run_pass(engine, app, settings, "alive") is not None


def test_images_whose_message_was_never_sent_are_resent_by_a_later_pass(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    overdue(engine, "a")
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["a"]]
    change(engine, "a", due_at=epoch_now() - 1)
    assert run_pass(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["a"]]


def test_pending_report_is_requested_when_the_bulk_queue_is_empty(
    engine: Engine, app: Celery, settings: Settings, sent: Any
) -> None:
    add_model(engine)
    run_id = add_run(engine, [])
    assert run_pass(engine, app, settings) == ReconcileResult(finished=1)
    with write_transaction(engine) as connection:
        connection.execute(update(reports).values(due_at=epoch_now() - 1))
    send_chunk(app, GradeChunk(run_id=run_id, image_ids=("x",)), queue=Queue.BULK, run_name="night")
    assert run_pass(engine, app, settings) == ReconcileResult()
    assert sent() == [["x"]]
    off = settings.model_copy(update={"reports": False})
    assert run_pass(engine, app, off) == ReconcileResult()
    assert run_pass(engine, app, settings) == ReconcileResult(reports=1)
    assert queue_depth(app, Queue.BULK) == 1
    assert run_pass(engine, app, settings) == ReconcileResult()
