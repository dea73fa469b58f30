"""Enqueue, resend and cancel on a real broker and both databases."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import OperationalError

from producer.runs.cancel import cancel
from producer.runs.enqueue import BATCH_IMAGES, EnqueueResult, enqueue
from producer.runs.lifecycle import RunRequest, seal_run
from producer.runs.resend import resend
from tests.unit.producer.ledger_rows import (
    add_model,
    database_now,
    fail,
    grade,
    lease,
    make_run,
    references,
    rows_of,
)
from worker.core.errors import BrokerError, RunError, SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.core.vocabulary import AuditAction, Queue, RunState, Status
from worker.ledger.database import read_transaction
from worker.ledger.runs import find_run, list_runs
from worker.ledger.schema import audit_log

Enqueue = Callable[..., EnqueueResult]


@pytest.fixture
def settings(make_settings: Callable[..., Settings], broker_url: str) -> Settings:
    return make_settings(broker_url=broker_url, chunk_size=3, resend_after_s=60)


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_celery(settings)


@pytest.fixture
def enqueued(engine: Engine, app: Celery, settings: Settings) -> Enqueue:
    def run(images: Iterator[ImageReference] | list[ImageReference], **request: object) -> EnqueueResult:
        wanted = RunRequest(name="night", source="test", **request)
        return enqueue(engine, app, settings, wanted, iter(images), lambda _found, _new: None)

    return run


def consume(app: Celery, queue: Queue = Queue.BULK) -> list[tuple[str, ...]]:
    """Consume all messages of a queue; return the image ids of each."""
    chunks = []
    with app.connection_for_read() as connection, connection.SimpleQueue(str(queue)) as waiting:
        while True:
            try:
                message = waiting.get_nowait()
            except waiting.Empty:
                return chunks
            _args, kwargs, _embedded = message.payload
            chunks.append(GradeChunk.decode(kwargs["message"]).image_ids)
            message.ack()


def without_broker(settings: Settings) -> Celery:
    """Return an application whose broker is unreachable."""
    return make_celery(settings.model_copy(update={"broker_url": settings.broker_url.__class__("redis://127.0.0.1:1")}))


def test_every_image_is_sent_once_in_order(enqueued: Enqueue, app: Celery) -> None:
    done = enqueued(references(*"gabfcde"))

    assert (done.found, done.new, done.messages, done.state) == (7, 7, 3, RunState.RUNNING)
    assert consume(app) == [("g", "a", "b"), ("f", "c", "d"), ("e",)]


def test_second_enqueue_sends_only_new_images(enqueued: Enqueue, app: Celery) -> None:
    enqueued(references("a", "b"))
    consume(app)

    done = enqueued(references("a", "c", "b", "d"))

    assert (done.found, done.new, done.messages) == (4, 2, 1)
    assert consume(app) == [("c", "d")]


def test_live_run_uses_the_live_queue(enqueued: Enqueue, app: Celery) -> None:
    enqueued(references("a", "b"), queue=Queue.LIVE, chunk_size=1)

    assert consume(app, Queue.LIVE) == [("a",), ("b",)]
    assert consume(app, Queue.BULK) == []


def test_full_batches_make_full_chunks(enqueued: Enqueue, app: Celery) -> None:
    enqueued(references(*(f"i{number}" for number in range(BATCH_IMAGES + 2))), chunk_size=256)

    assert [len(chunk) for chunk in consume(app)] == [256] * (BATCH_IMAGES // 256) + [2]


def test_unreachable_broker_loses_nothing(engine: Engine, enqueued: Enqueue, app: Celery, settings: Settings) -> None:
    request = RunRequest(name="night", source="test")
    with pytest.raises(BrokerError, match="cannot send 3 images of run night") as raised:
        enqueue(
            engine, without_broker(settings), settings, request, iter(references(*"abcd")), lambda _found, _new: None
        )

    run = find_run(engine, "night")
    rows = rows_of(engine, run)
    assert raised.value.detail.endswith(
        "; 4 images of run night are recorded: a worker sends them within 1 min 20 s of the broker's return; fix: start"
        " the broker or correct FUNDUS_BROKER_URL, then wait, or run `fundus resend night`"
    )
    assert run.state == RunState.RUNNING
    assert list(rows) == ["a", "b", "c", "d"]
    assert all(row.due_at <= database_now(engine) + 60 for row in rows.values())

    assert enqueued(references(*"abcde")).new == 1
    assert consume(app) == [("e",)]
    assert resend(engine, app, settings, "night", ()).waiting == 5


def test_unreadable_source_makes_no_run(engine: Engine, enqueued: Enqueue) -> None:
    def broken() -> Iterator[ImageReference]:
        yield from references("a")
        raise SourceError("line 2")

    with pytest.raises(SourceError, match="line 2"):
        enqueued(broken())
    assert list_runs(engine, 1) == []


def test_run_continues_after_its_source_failed(engine: Engine, enqueued: Enqueue, app: Celery) -> None:
    names = [f"i{number}" for number in range(BATCH_IMAGES + 1)]

    def broken() -> Iterator[ImageReference]:
        yield from references(*names[:-1])
        raise SourceError("line 2050")

    with pytest.raises(SourceError, match="line 2050"):
        enqueued(broken())
    assert find_run(engine, "night").state == RunState.OPEN
    consume(app)

    done = enqueued(references(*names))

    assert (done.new, done.state, consume(app)) == (1, RunState.RUNNING, [(names[-1],)])


def test_unreachable_broker_stops_no_registration(engine: Engine, settings: Settings) -> None:
    names = [f"i{number}" for number in range(BATCH_IMAGES + 1)]
    request = RunRequest(name="night", source="test")

    with pytest.raises(BrokerError, match=f"; {len(names):,} images of run night are recorded"):
        enqueue(engine, without_broker(settings), settings, request, iter(references(*names)), lambda *_: None)

    assert len(rows_of(engine, find_run(engine, "night"))) == len(names)


def test_id_of_two_images_makes_no_run(engine: Engine, enqueued: Enqueue) -> None:
    with pytest.raises(SourceError, match="image_id 'a' is used for both"):
        enqueued([*references("a"), ImageReference("file:///other.jpg", image_id="a")])
    assert list_runs(engine, 1) == []


def test_empty_source_makes_no_run(engine: Engine, enqueued: Enqueue) -> None:
    with pytest.raises(SourceError, match="test has no image; fix: "):
        enqueued([])
    assert list_runs(engine, 1) == []


def test_night_without_images_finishes_at_once(engine: Engine, app: Celery, settings: Settings) -> None:
    night = RunRequest(name="night", source="test")
    done = enqueue(engine, app, settings, night, iter(()), lambda *_: None, may_be_empty=True)
    assert done.state == RunState.FINISHED


def test_resend_sends_suspects_alone_and_keeps_leased_and_settled_images(
    engine: Engine, app: Celery, settings: Settings
) -> None:
    run = make_run(engine, "night", references("free-1", "free-2", "held", "lost-1", "lost-2", "spent", "failed"))
    lease(engine, run, "held", seconds=60)
    lease(engine, run, "lost-1", seconds=-1, attempts=1)
    lease(engine, run, "lost-2", seconds=-1, attempts=2)
    lease(engine, run, "spent", seconds=-1, attempts=3)
    fail(engine, run, "failed", "image_format")

    done = resend(engine, app, settings, "night", ())

    assert (done.waiting, done.requeued, done.messages) == (4, 0, 3)
    assert consume(app) == [("free-1", "free-2"), ("lost-1",), ("lost-2",)]
    rows = rows_of(engine, run)
    assert [rows[name].lease_token for name in ("held", "lost-1", "spent")] == ["held", None, "held"]
    assert rows["lost-1"].due_at > database_now(engine) + 50


def test_requeued_images_lose_their_outcome(engine: Engine, app: Celery, settings: Settings) -> None:
    add_model(engine)
    run = make_run(engine, "night", references("good", "failed", "dark", "killer"))
    grade(engine, run, "good", 2)
    fail(engine, run, "failed", "image_format")
    fail(engine, run, "dark", "field_dark", Status.UNGRADABLE)
    fail(engine, run, "killer", "attempts_exhausted", Status.QUARANTINED)

    done = resend(engine, app, settings, "night", [Status.FAILED, Status.QUARANTINED])

    assert (done.waiting, done.requeued, consume(app)) == (0, 2, [("failed", "killer")])
    rows = rows_of(engine, run)
    assert [rows[name].status for name in ("good", "failed", "dark", "killer")] == [
        "graded", "queued", "ungradable", "queued",
    ]  # fmt: skip
    killer = rows["killer"]
    assert (killer.attempts, killer.error_code, killer.error_detail, killer.settled_at, killer.model_id) == (
        0, None, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "start",
    ["INSERT INTO runs", "INSERT INTO gradings", "UPDATE runs SET state", "INSERT INTO audit", "SELECT runs.state"],
)
def test_enqueue_retries_serialisation_failures(engine: Engine, enqueued: Enqueue, app: Celery, start: str) -> None:
    hits: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def conflict(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(start):
            hits.append(statement)
            if len(hits) == 1:
                raise OperationalError(statement, {}, Exception("could not serialize access"))

    done = enqueued(references("a", "b"))
    assert len(hits) > 1
    assert (done.found, done.new, done.state) == (2, 2, RunState.RUNNING)
    assert consume(app) == [("a", "b")]
    with read_transaction(engine) as connection:
        actions = connection.scalars(select(audit_log.c.action).order_by(audit_log.c.audit_id)).all()
    assert actions == [AuditAction.ENQUEUE, AuditAction.SEAL]


def test_finished_run_reopens_for_requeued_images(engine: Engine, app: Celery, settings: Settings) -> None:
    run = make_run(engine, "night", references("a"))
    fail(engine, run, "a", "image_format")
    assert seal_run(engine, run) == RunState.FINISHED

    resend(engine, app, settings, "night", [Status.UNGRADABLE])
    assert find_run(engine, "night").state == RunState.FINISHED

    resend(engine, app, settings, "night", [Status.FAILED])
    again = find_run(engine, "night")
    assert (again.state, again.finished_at) == (RunState.RUNNING, None)


def test_cancelled_run_is_not_resent(engine: Engine, app: Celery, settings: Settings) -> None:
    make_run(engine, "night", references("a"))
    cancel(engine, "night")

    with pytest.raises(RunError, match="run night is cancelled"):
        resend(engine, app, settings, "night", [Status.FAILED])
