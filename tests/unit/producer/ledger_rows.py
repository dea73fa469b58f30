"""Factories of runs and outcomes, written directly into the ledger's tables."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Engine, insert, select, update

from producer.runs.lifecycle import Night, RunRequest, open_run, seal_run
from producer.runs.register import register_batch
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Queue, RunKind, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import gradings, images, models

MODEL = "0123456789abcdef"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def references(*names: str) -> list[ImageReference]:
    return [ImageReference(f"file:///{name}.jpg", image_id=name) for name in names]


def add_model(engine: Engine, model_id: str = MODEL) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(models).values(model_id=model_id, name="toy", document={}, registered_at=NOON))


def make_run(engine: Engine, name: str, images: Iterable[ImageReference], queue: Queue | None = None) -> Run:
    """Make a sealed run with these images queued."""
    return _make(engine, RunRequest(name=name, source="test", queue=queue), images)


def make_night(engine: Engine, day: int, images: Iterable[ImageReference], programme: str = "nightly") -> Run:
    """Make a sealed nightly run of a day in November 2026."""
    night = Night(programme, date(2026, 11, day))
    return _make(engine, RunRequest(name=night.run_name, source="test", kind=RunKind.NIGHTLY, night=night), images)


def _make(engine: Engine, request: RunRequest, images: Iterable[ImageReference]) -> Run:
    run, position = open_run(engine, request, default_chunk_size=2)
    register_batch(engine, run, list(images), position=position, resend_after_s=60)
    seal_run(engine, run)
    return find_run(engine, request.name)


def change(engine: Engine, run: Run, image_id: str, **values: Any) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings).where(gradings.c.run_id == run.run_id, gradings.c.image_id == image_id).values(**values)
        )


def lease(engine: Engine, run: Run, image_id: str, *, seconds: float, attempts: int = 1) -> None:
    change(engine, run, image_id, attempts=attempts, lease_token="held", due_at=epoch_now() + seconds)


def grade(engine: Engine, run: Run, image_id: str, grade: int, at: datetime = NOON, **values: Any) -> None:
    """Settle an image as graded. Outputs up to the grade are 0.9, the others 0.1."""
    outputs = {f"p_ge{k}": 0.9 if k <= grade else 0.1 for k in range(5)}
    outcome = {
        "status": Status.GRADED,
        "grade": grade,
        **outputs,
        "referable": grade >= 2,
        "flags": "",
        "saliency": bytes(98),
        "model_id": MODEL,
        "overlay_key": f"{run.name}/{MODEL}/{image_id}.png",
        "settled_at": at,
    }
    change(engine, run, image_id, **(outcome | values))


def fail(
    engine: Engine, run: Run, image_id: str, code: str, status: Status = Status.FAILED, at: datetime = NOON
) -> None:
    change(engine, run, image_id, status=status, error_code=code, error_detail="why", settled_at=at, attempts=1)


def rows_of(engine: Engine, run: Run) -> dict[str, Any]:
    with read_transaction(engine) as connection:
        rows = connection.execute(select(gradings).where(gradings.c.run_id == run.run_id).order_by(gradings.c.position))
        return {row.image_id: row for row in rows}


def image_of(engine: Engine, image_id: str) -> Any:
    with read_transaction(engine) as connection:
        return connection.execute(select(images).where(images.c.image_id == image_id)).one()


def database_now(engine: Engine) -> float:
    with read_transaction(engine) as connection:
        return float(connection.execute(select(epoch_now())).scalar_one())
