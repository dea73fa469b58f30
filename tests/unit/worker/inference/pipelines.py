"""A pipeline with real ledger, store and decoders, whose network is a function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert

from worker.core.messages import GradeChunk
from worker.core.predictions import Prediction
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Precision
from worker.imaging.sandbox.pool import DecoderPool
from worker.inference.activity_tracker import ActivityTracker
from worker.inference.batcher import Batcher
from worker.inference.metrics import Metrics
from worker.inference.pipeline import Pipeline
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.leases import register_model
from worker.ledger.schema import gradings, images, runs
from worker.model.bundle.ensemble import load_model

PHOTOGRAPH = (Path(__file__).parents[4] / "producer" / "demo" / "samples" / "IDRiD_001.jpg").read_bytes()

Predict = Callable[[Sequence[Any]], Sequence[Prediction]]


@dataclass(frozen=True)
class RunningPipeline:
    """A pipeline, the storage that it reads from, and threads in which chunks are graded."""

    pipeline: Pipeline
    storage: Storage
    activity: ActivityTracker
    threads: ThreadPoolExecutor

    def grade(self, run_id: int, *image_ids: str, urgent: bool = False) -> "Future[dict[str, int]]":
        chunk = GradeChunk(run_id=run_id, image_ids=image_ids)
        return self.threads.submit(self.pipeline.grade_chunk, chunk, urgent=urgent)


def predict_moderate(batch: Sequence[Any]) -> list[Prediction]:
    """Predict moderate DR for every image."""
    saliency = np.zeros((7, 7), np.float32)
    saliency[0, 0] = 1
    return [Prediction(np.array([1, 0.9, 0.8, 0.2, 0.1], np.float32), saliency) for _ in batch]


@contextmanager
def running_pipeline(
    settings: Settings, engine: Engine, *, predict: Predict = predict_moderate
) -> Iterator[RunningPipeline]:
    """Run a pipeline until the block ends."""
    model = load_model(settings.model)
    register_model(engine, model.model_id, model.name, {})
    activity = ActivityTracker()
    storage = Storage(settings, connections=settings.transfer_threads, request_attempts=1)
    with ExitStack() as resources:
        decoders = DecoderPool(model.recipe, settings)
        resources.callback(decoders.close)
        batcher = Batcher(predict, max_batch_size=settings.max_batch_size, max_wait_ms=settings.max_wait_ms)
        resources.callback(batcher.close)
        pipeline = Pipeline(
            settings=settings,
            database=engine,
            storage=storage,
            model=model,
            precision=Precision.FLOAT32,
            configuration_id=None,
            decoders=decoders,
            batcher=batcher,
            activity=activity,
            metrics=Metrics(lambda: activity.chunks_in_flight),
            send_report=lambda *_: None,
        )
        threads = ThreadPoolExecutor(8)
        resources.callback(threads.shutdown)
        resources.callback(pipeline.close)
        yield RunningPipeline(pipeline, storage, activity, threads)


def register_run(engine: Engine, name: str, uris: Mapping[str, str]) -> int:
    """Add a running run with these images, by image id; return its id."""
    now = datetime.now(UTC)
    run = {"name": name, "kind": "manual", "state": "running", "queue": "bulk", "source": "test", "chunk_size": 8}
    with write_transaction(engine) as connection:
        run_id = connection.execute(insert(runs).values(created_at=now, **run).returning(runs.c.run_id)).scalar_one()
        for position, (image_id, uri) in enumerate(uris.items()):
            connection.execute(insert(images).values(image_id=image_id, uri=uri, eye="unknown", registered_at=now))
            connection.execute(
                insert(gradings).values(run_id=run_id, image_id=image_id, position=position, due_at=epoch_now() + 60)
            )
    return int(run_id)
