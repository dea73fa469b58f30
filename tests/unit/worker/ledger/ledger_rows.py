"""Insert runs, images and outcomes directly into the tables, for the tests of the ledger."""

from datetime import UTC, datetime

import numpy as np
from sqlalchemy import Engine, insert, select, update

from worker.core.messages import GradeChunk
from worker.core.predictions import GradeDecision, Outcome, Prediction
from worker.core.vocabulary import Flag, Grade, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.leases import Lease, lease_chunk
from worker.ledger.schema import gradings, images, models, runs

MODEL = "0123456789abcdef"
MAX_ATTEMPTS = 3


def add_model(engine: Engine, model_id: str = MODEL) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            insert(models).values(model_id=model_id, name="toy", document={}, registered_at=datetime.now(UTC))
        )


def add_run(
    engine: Engine,
    image_ids: list[str],
    *,
    name: str = "night",
    state: str = "running",
    queue: str = "bulk",
    **run: object,
) -> int:
    now = datetime.now(UTC)
    with write_transaction(engine) as connection:
        run_id = connection.execute(
            insert(runs)
            .values(
                name=name, kind="manual", state=state, queue=queue, source="test", chunk_size=2, created_at=now, **run
            )
            .returning(runs.c.run_id)
        ).scalar_one()
        for position, image_id in enumerate(image_ids):
            known = connection.execute(select(images.c.image_id).where(images.c.image_id == image_id)).first()
            if known is None:
                connection.execute(
                    insert(images).values(
                        image_id=image_id, uri=f"file:///{image_id}.jpg", eye="unknown", registered_at=now
                    )
                )
            connection.execute(
                insert(gradings).values(run_id=run_id, image_id=image_id, position=position, due_at=epoch_now() + 60)
            )
    return int(run_id)


def change(engine: Engine, image_id: str, **values: object) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(gradings).where(gradings.c.image_id == image_id).values(**values))


def overdue(engine: Engine, *image_ids: str) -> None:
    """Make the rows due."""
    for image_id in image_ids:
        change(engine, image_id, due_at=epoch_now() - 1)


def database_time(engine: Engine) -> float:
    """Return the time of the database clock, in seconds since 1970."""
    with read_transaction(engine) as connection:
        return float(connection.execute(select(epoch_now())).scalar_one())


def row(engine: Engine, image_id: str) -> object:
    with read_transaction(engine) as connection:
        return connection.execute(select(gradings).where(gradings.c.image_id == image_id)).one()


def run_row(engine: Engine, run_id: int) -> object:
    with read_transaction(engine) as connection:
        return connection.execute(select(runs).where(runs.c.run_id == run_id)).one()


def lease(engine: Engine, run_id: int, *image_ids: str, lease_s: float = 60, model_id: str = MODEL) -> Lease:
    chunk = GradeChunk(run_id=run_id, image_ids=image_ids)
    return lease_chunk(engine, chunk, model_id=model_id, lease_s=lease_s, max_attempts=MAX_ATTEMPTS)


def graded(image_id: str, grade: int = 2) -> Outcome:
    """Outcome with probabilities of 0.9 up to the grade and 0.25 above it, and a saliency of 0, 1/48, ... 1."""
    probabilities = np.array([0.9 if k <= grade else 0.25 for k in range(5)], np.float32)
    saliency = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
    decision = GradeDecision(Grade(grade), grade >= 2, np.full(5, 0.2, np.float32), (Flag.NOT_MONOTONE,))
    return Outcome(image_id, Status.GRADED, Prediction(probabilities, saliency), decision, f"night/{image_id}.png")


def failed(image_id: str) -> Outcome:
    return Outcome(image_id, Status.FAILED, error_code="image_damaged", error_detail="JPEG ends at byte 7")
