"""A run whose model no worker has is not sent again and again, is named, and goes on when a worker has the model."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Engine, insert, update
from structlog.testing import capture_logs

from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, add_run, change, lease
from worker.core.messaging.broker import make_celery, queue_depth
from worker.core.settings import Settings
from worker.core.vocabulary import Precision, Queue
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.schema import locks, runs, workers
from worker.ledger.status import describe_progress, read_progress
from worker.ledger.stranded_runs import count_stranded_images
from worker.ledger.worker_presence import announce_worker, count_workers, end_presence, renew_presence
from worker.maintenance.reconciler import PROBE_EVERY_S, ReconcileResult, reconcile

OTHER = "fedcba9876543210"
IMAGES = ["a", "b", "c"]
NOTHING = ReconcileResult()


@pytest.fixture
def settings(make_settings: Callable[..., Settings], broker_url: str) -> Settings:
    return make_settings(broker_url=broker_url)


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_celery(settings)


@pytest.fixture
def run(engine: Engine) -> int:
    """A run of MODEL, its images refused by workers with OTHER, and the reconciler's lock."""
    for model in (MODEL, OTHER):
        add_model(engine, model)
    with write_transaction(engine) as connection:
        connection.execute(insert(locks).values(name="reconciler", holder="me", until=epoch_now() + 3600))
    return add_run(engine, IMAGES, model_id=MODEL)


def start_worker(engine: Engine, worker_id: str, model_id: str, queues: str = "live,bulk") -> None:
    announce_worker(engine, worker_id, queues)
    renew_presence(engine, worker_id, model_id, Precision.BFLOAT16, lease_s=60)


def refused(engine: Engine, seconds_ago: float) -> None:
    for image in IMAGES:
        change(engine, image, error_code="model_mismatch", error_detail="other model", due_at=epoch_now() - seconds_ago)


def run_pass(engine: Engine, app: Celery, settings: Settings) -> tuple[ReconcileResult | None, list[dict[str, Any]]]:
    with capture_logs() as lines:
        done = reconcile(engine, app, settings, holder="me")
    return done, [dict(line) for line in lines if line["event"] == "model_missing"]


def test_images_are_not_sent_again_while_no_worker_has_their_model(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    start_worker(engine, "w", OTHER)
    refused(engine, 5)
    assert run_pass(engine, app, settings) == (NOTHING, [])
    assert queue_depth(app, Queue.BULK) == 0


def test_one_image_is_sent_from_time_to_time_and_the_log_names_run_and_model(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    start_worker(engine, "w", OTHER)
    refused(engine, PROBE_EVERY_S + 5)
    done, named = run_pass(engine, app, settings)
    assert done == ReconcileResult(sent_alone=1)
    assert [(line["run"], line["model"], line["model_id"]) for line in named] == [("night", "toy", MODEL)]
    assert run_pass(engine, app, settings) == (NOTHING, [])


def test_all_images_are_sent_once_a_worker_has_their_model(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    start_worker(engine, "w", OTHER)
    refused(engine, 5)
    start_worker(engine, "x", MODEL)
    assert run_pass(engine, app, settings) == (ReconcileResult(sent_again=3), [])


def test_worker_of_another_queue_ended_or_dead_does_not_count(
    engine: Engine, run: int, app: Celery, settings: Settings
) -> None:
    start_worker(engine, "w", OTHER)
    start_worker(engine, "live", MODEL, queues="live")
    start_worker(engine, "ended", MODEL)
    end_presence(engine, "ended")
    start_worker(engine, "dead", MODEL)
    with write_transaction(engine) as connection:
        connection.execute(update(workers).where(workers.c.worker_id == "dead").values(until=epoch_now() - 1))
    refused(engine, 5)
    assert run_pass(engine, app, settings) == (NOTHING, [])


@pytest.mark.parametrize("known", [False, True], ids=["no worker is known", "a worker of version 0.1 holds a lease"])
def test_runs_are_resent_where_workers_may_have_the_model_unseen(
    engine: Engine, run: int, app: Celery, settings: Settings, *, known: bool
) -> None:
    refused(engine, 5)
    if known:
        start_worker(engine, "w", OTHER)
        lease(engine, run, "a")
    done, _ = run_pass(engine, app, settings)
    assert done == ReconcileResult(sent_again=2 if known else 3)


@pytest.mark.parametrize(("model", "missing"), [(MODEL, "toy in float32"), (None, "any model in float32")])
def test_precision_that_no_worker_computes_in_is_missing_like_a_model(
    engine: Engine, run: int, model: str | None, missing: str
) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(runs).where(runs.c.run_id == run).values(model_id=model, precision="float32"))
    start_worker(engine, "w", MODEL)
    assert read_progress(engine, "night").missing_model == missing
    renew_presence(engine, "w", MODEL, Precision.FLOAT32, lease_s=60)
    assert read_progress(engine, "night").missing_model is None


def test_status_and_metrics_name_the_missing_model(engine: Engine, run: int) -> None:
    progress = read_progress(engine, "night")
    assert progress.missing_model is None
    start_worker(engine, "w", OTHER)
    assert describe_progress(read_progress(engine, "night"))["missing_model"] == "toy"
    with read_transaction(engine) as connection:
        assert count_stranded_images(connection) == {"toy": 3}


def test_workers_that_run_and_that_died_are_counted(engine: Engine, run: int) -> None:
    announce_worker(engine, "loading", "bulk")
    for worker_id in ("running", "ended", "dead", "late", "long ago"):
        start_worker(engine, worker_id, MODEL)
    end_presence(engine, "ended")
    with write_transaction(engine) as connection:
        for worker_id, seconds in (("dead", 61), ("ended", 61), ("late", 30), ("long ago", 4000)):
            late = update(workers).where(workers.c.worker_id == worker_id).values(until=epoch_now() - seconds)
            connection.execute(late)
    with read_transaction(engine) as connection:
        assert count_workers(connection) == (1, 1)
