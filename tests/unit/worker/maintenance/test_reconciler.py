"""What was lost is sent again, what kills is put away, what is done is finished: on real servers."""

import json
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import Engine, delete, insert, update

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
    """The image ids of each message on the bulk queue, oldest first; they are taken off."""

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


def look(engine: Engine, app: Celery, settings: Settings, holder: str = "me") -> ReconcileResult | None:
    return reconcile(engine, app, settings, holder=holder)


def test_nothing_due_is_left_alone(engine: Engine, run: int, app: Celery, settings: Settings, sent: Any) -> None:
    assert look(engine, app, settings) == ReconcileResult()
    assert sent() == []


def test_lost_messages_are_sent_again_in_chunks(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    overdue(engine, "a", "b", "c")
    assert look(engine, app, settings) == ReconcileResult(sent_again=3)
    assert sent() == [["a", "b"], ["c"]]
    assert look(engine, app, settings) == ReconcileResult()


def test_message_that_still_waits_in_its_queue_is_not_doubled(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    send_chunk(app, GradeChunk(run_id=run, image_ids=("a", "b", "c")), queue=Queue.BULK, run_name="night")
    overdue(engine, "a", "b", "c")
    assert look(engine, app, settings) == ReconcileResult()
    assert sent() == [["a", "b", "c"]]
    assert look(engine, app, settings) == ReconcileResult(sent_again=3)


def test_images_of_a_dead_worker_are_sent_one_by_one(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    lease(engine, run, "a", "b")
    overdue(engine, "a", "b")
    assert look(engine, app, settings) == ReconcileResult(sent_alone=2)
    assert sent() == [["a"], ["b"]]
    assert row(engine, "a").lease_token is None


def test_images_of_a_live_worker_stay_its_own(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    lease(engine, run, "a", "b")
    assert look(engine, app, settings) == ReconcileResult()
    assert sent() == []


def test_image_that_a_service_failed_is_sent_again_beside_a_full_queue(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    held = lease(engine, run, "a")
    settle_chunk(engine, held, [], {"a": StorageError("down")}, model_id=MODEL, retry_after_s=60)
    send_chunk(app, GradeChunk(run_id=run, image_ids=("b", "c")), queue=Queue.BULK, run_name="night")
    assert look(engine, app, settings) == ReconcileResult()
    overdue(engine, "a")
    assert look(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["b", "c"], ["a"]]


def test_image_that_outlived_its_attempts_is_quarantined_and_its_run_finishes(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    held = lease(engine, run, "b", "c")
    settle_chunk(engine, held, [graded("b"), graded("c")], {}, model_id=MODEL, retry_after_s=60)
    for attempt in range(3):
        assert len(lease(engine, run, "a").images) == 1
        overdue(engine, "a")
        expected = ReconcileResult(sent_alone=1) if attempt < 2 else ReconcileResult(quarantined=1, finished=1)
        assert look(engine, app, settings) == expected
    a = row(engine, "a")
    assert (a.status, a.error_code, a.attempts, a.lease_token) == ("quarantined", "attempts_exhausted", 3, None)
    assert run_row(engine, run).state == "finished"
    assert sent() == [["a"], ["a"]]


def test_leftovers_of_a_cancelled_run_are_cancelled(engine: Engine, app: Celery, settings: Settings, sent: Any) -> None:
    add_model(engine)
    add_run(engine, ["a"], state="cancelled")
    overdue(engine, "a")
    assert look(engine, app, settings) == ReconcileResult(cancelled=1)
    assert row(engine, "a").status == "cancelled"
    assert sent() == []


def test_run_whose_last_worker_died_before_saying_so_is_finished(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    held = lease(engine, run, "a", "b", "c")
    settle_chunk(engine, held, [graded(i) for i in "abc"], {}, model_id=MODEL, retry_after_s=60)
    assert look(engine, app, settings) == ReconcileResult(finished=1)
    assert run_row(engine, run).finished_at is not None


def test_one_worker_at_a_time_reconciles(engine: Engine, run: int, app: Celery, settings: Settings) -> None:
    assert look(engine, app, settings, "me") is not None
    assert look(engine, app, settings, "second") is None
    assert look(engine, app, settings, "me") is not None
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(until=epoch_now() - 1))
    assert look(engine, app, settings, "second") is not None
    assert look(engine, app, settings, "me") is None


def test_worker_that_has_just_taken_the_lock_waits_a_turn(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    """The ledger was away for longer than leases last, and the worker that holds the image is about to renew."""
    held = lease(engine, run, "a")
    overdue(engine, "a")
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(until=epoch_now() - 1))
    assert look(engine, app, settings) == ReconcileResult()
    renew_lease(engine, held, lease_s=60)
    assert look(engine, app, settings) == ReconcileResult()
    assert row(engine, "a").lease_token == held.token


def test_first_worker_of_a_new_ledger_takes_the_lock_and_waits_a_turn(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    with write_transaction(engine) as connection:
        connection.execute(delete(locks))
    overdue(engine, "a")
    assert look(engine, app, settings) == ReconcileResult()
    assert look(engine, app, settings) == ReconcileResult(sent_again=1)


def test_lock_of_a_dead_worker_is_free_after_three_turns(
    engine: Engine, run: int, app: Celery, broker_url: str
) -> None:
    settings = parse_settings(broker_url=broker_url, reconcile_every_s=0.1)
    assert look(engine, app, settings, "me") is not None
    assert look(engine, app, settings, "alive") is None
    time.sleep(0.31)
    assert look(engine, app, settings, "alive") is not None


def test_crash_between_commit_and_sending_is_healed_at_the_next_turn(
    engine: Engine, run: int, app: Celery, settings: Settings, sent: Any
) -> None:
    overdue(engine, "a")
    assert look(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["a"]]
    change(engine, "a", due_at=epoch_now() - 1)
    assert look(engine, app, settings) == ReconcileResult(sent_again=1)
    assert sent() == [["a"]]


def test_report_that_nobody_sent_for_is_sent_for_when_bulk_is_empty(
    engine: Engine, app: Celery, settings: Settings, sent: Any
) -> None:
    add_model(engine)
    run_id = add_run(engine, [])
    assert look(engine, app, settings) == ReconcileResult(finished=1)
    with write_transaction(engine) as connection:
        connection.execute(update(reports).values(due_at=epoch_now() - 1))
    send_chunk(app, GradeChunk(run_id=run_id, image_ids=("x",)), queue=Queue.BULK, run_name="night")
    assert look(engine, app, settings) == ReconcileResult()
    assert sent() == [["x"]]
    off = settings.model_copy(update={"reports": False})
    assert look(engine, app, off) == ReconcileResult()
    assert look(engine, app, settings) == ReconcileResult(reports=1)
    assert queue_depth(app, Queue.BULK) == 1
    assert look(engine, app, settings) == ReconcileResult()
