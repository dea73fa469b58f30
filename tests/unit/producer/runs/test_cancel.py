import pytest
from sqlalchemy import Engine

from producer.runs.cancel import cancel
from tests.unit.producer.ledger_rows import fail, lease, make_run, references, rows_of
from worker.core.errors import RunError
from worker.core.vocabulary import RunState
from worker.ledger.runs import find_run


def test_cancel_leaves_leased_images(engine: Engine) -> None:
    run = make_run(engine, "night", references("free", "held", "lost", "failed"))
    lease(engine, run, "held", seconds=60)
    lease(engine, run, "lost", seconds=-1)
    fail(engine, run, "failed", "image_format")

    assert cancel(engine, "night").cancelled == 2

    rows = rows_of(engine, run)
    assert {image_id: row.status for image_id, row in rows.items()} == {
        "free": "cancelled",
        "held": "queued",
        "lost": "cancelled",
        "failed": "failed",
    }
    assert rows["lost"].lease_token is None
    assert rows["free"].settled_at is not None
    assert find_run(engine, "night").state == RunState.CANCELLED


def test_cancel_is_idempotent(engine: Engine) -> None:
    run = make_run(engine, "night", references("a"))
    cancel(engine, "night")

    assert cancel(engine, "night").cancelled == 0
    assert rows_of(engine, run)["a"].status == "cancelled"


def test_finished_run_cannot_be_cancelled(engine: Engine) -> None:
    make_run(engine, "night", [])

    with pytest.raises(RunError, match="run night is finished: there is nothing to cancel"):
        cancel(engine, "night")
