"""Producers, workers and operators change one run at the same time; on PostgreSQL, each in an open transaction."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from celery import Celery
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from producer.runs.lifecycle import RunRequest, open_run
from producer.runs.register import register_batch
from producer.runs.resend import resend
from tests.unit.interleaving import interleave
from tests.unit.producer.ledger_rows import (
    MODEL,
    add_model,
    fail,
    grade,
    image_of,
    make_run,
    references,
    rows_of,
)
from worker.core.errors import ModelError, RunError
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings, parse_settings
from worker.core.vocabulary import Eye, RunState, Status
from worker.ledger.database import connect
from worker.ledger.leases import Lease, finish_run, lease_chunk
from worker.ledger.runs import Run, find_run

OTHER_MODEL = "fedcba9876543210"
READS_RUN = "FROM runs"
SHA = "0" * 64


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Engine]:
    engine = connect(parse_settings(database_url=postgres_url))
    add_model(engine)
    add_model(engine, OTHER_MODEL)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(broker_url: str) -> Settings:
    return parse_settings(broker_url=broker_url)


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_celery(settings)


def reopen(engine: Engine, model_id: str | None = None) -> Run:
    request = RunRequest(name="night", source="test", model_id=model_id)
    return open_run(engine, request, default_chunk_size=2)[0]


def lease(engine: Engine, run: Run, image_id: str, model_id: str) -> Lease:
    chunk = GradeChunk(run_id=run.run_id, image_ids=(image_id,))
    return lease_chunk(engine, chunk, model_id=model_id, lease_s=60, max_attempts=3)


def test_run_that_is_enqueued_again_keeps_the_model_of_its_first_lease(ledger: Engine, postgres_url: str) -> None:
    run = make_run(ledger, "night", references("a", "b"))
    _, leased = interleave(postgres_url, reopen, lambda e: lease(e, run, "a", MODEL), stop_after=READS_RUN)
    assert [image.image_id for image in leased.images] == ["a"]
    assert find_run(ledger, "night").model_id == MODEL
    with pytest.raises(ModelError, match=f"run night belongs to model {MODEL}"):
        lease(ledger, run, "b", OTHER_MODEL)


def test_worker_does_not_lease_under_its_model_while_another_one_is_requested(
    ledger: Engine, postgres_url: str
) -> None:
    run = make_run(ledger, "night", references("a"))
    _, leased = interleave(
        postgres_url,
        lambda e: reopen(e, OTHER_MODEL),
        lambda e: lease(e, run, "a", MODEL),
        stop_after=READS_RUN,
    )
    assert isinstance(leased, ModelError)
    assert find_run(ledger, "night").model_id == OTHER_MODEL
    assert rows_of(ledger, run)["a"].lease_token is None


def test_run_that_is_cancelled_while_it_is_enqueued_again_stays_cancelled(ledger: Engine, postgres_url: str) -> None:
    make_run(ledger, "night", references("a"))
    interleave(postgres_url, reopen, lambda e: cancel(e, "night"), stop_after=READS_RUN)
    assert find_run(ledger, "night").state == RunState.CANCELLED


def test_chunk_size_set_by_another_producer_is_kept(ledger: Engine, postgres_url: str) -> None:
    make_run(ledger, "night", references("a"))
    resized = RunRequest(name="night", source="test", chunk_size=7)
    interleave(postgres_url, reopen, lambda e: open_run(e, resized, default_chunk_size=2), stop_after=READS_RUN)
    assert find_run(ledger, "night").chunk_size == 7


@pytest.mark.parametrize("first", ["resend", "finish"])
def test_run_does_not_finish_while_its_images_are_requeued(
    ledger: Engine, postgres_url: str, app: Celery, settings: Settings, first: str
) -> None:
    run = make_run(ledger, "night", references("a", "b"))
    grade(ledger, run, "a", 0)
    fail(ledger, run, "b", "image_missing")

    def requeue(engine: Engine) -> object:
        return resend(engine, app, settings, "night", [Status.FAILED])

    def finish(engine: Engine) -> bool:
        return finish_run(engine, run.run_id, report=True)

    if first == "resend":
        interleave(postgres_url, requeue, finish, stop_after="UPDATE runs")
    else:
        interleave(postgres_url, finish, requeue, stop_after="SET state=")
    assert rows_of(ledger, run)["b"].status == Status.QUEUED
    assert find_run(ledger, "night").state == RunState.RUNNING


def test_images_of_a_run_that_is_cancelled_meanwhile_are_not_requeued(
    ledger: Engine, postgres_url: str, app: Celery, settings: Settings
) -> None:
    run = make_run(ledger, "night", references("a", "b"))
    fail(ledger, run, "b", "image_missing")
    resent, _ = interleave(
        postgres_url,
        lambda e: resend(e, app, settings, "night", [Status.FAILED]),
        lambda e: cancel(e, "night"),
        stop_after=READS_RUN,
    )
    assert isinstance(resent, RunError)
    assert {image_id: row.status for image_id, row in rows_of(ledger, run).items()} == {
        "a": Status.CANCELLED,
        "b": Status.FAILED,
    }


def test_producers_keep_the_attributes_that_another_one_gives(ledger: Engine, postgres_url: str) -> None:
    (plain,) = references("a")
    runs = [make_run(ledger, name, [plain]) for name in ("one", "two")]
    given = replace(plain, patient_id="p-1", eye=Eye.LEFT, sha256=SHA)

    def register(run: Run, **attributes: object) -> object:
        image = replace(plain, **attributes)
        return lambda engine: register_batch(engine, run, [image], position=1, resend_after_s=60)

    interleave(
        postgres_url,
        register(runs[0], reference_grade=3),
        register(runs[1], patient_id="p-1", eye=Eye.LEFT, sha256=SHA),
        stop_after="FROM images",
    )
    image = image_of(ledger, "a")
    assert (image.patient_id, image.eye, image.sha256, image.reference_grade) == ("p-1", given.eye, SHA, 3)
