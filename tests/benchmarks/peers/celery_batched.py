"""One Celery task per 16 images: `celery -A tests.benchmarks.peers.celery_batched worker`.

The notebook's steps with full-size decoding; the network runs once per batch, compiled, with one gradient tape. One
process per core with one TensorFlow thread; the model is loaded and warm before the first task.
"""

import os
from typing import Any

import numpy as np
from celery import Celery
from celery.signals import worker_process_init

PEER = "celery_batched"
BATCH = 16

app = Celery(PEER, broker=os.environ.get("BENCH_BROKER", ""))
app.conf.update(
    task_default_queue=PEER, task_ignore_result=True, worker_prefetch_multiplier=1, worker_proc_alive_timeout=120
)
_state: dict[str, Any] = {}


@worker_process_init.connect
def _load(**_: object) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import cv2

    from tests.benchmarks.peers import notebook_pipeline, services

    cv2.setNumThreads(1)
    run = notebook_pipeline.compile_batch(notebook_pipeline.load_networks()[1])
    run(np.zeros((BATCH, notebook_pipeline.SIZE_PX, notebook_pipeline.SIZE_PX, 3), np.float32))
    _state.update(run=run, services=services.connect())


@app.task
def grade_batch(keys: list[str]) -> None:
    """Grade photographs by key and publish their overlays and rows."""
    from tests.benchmarks.peers import notebook_pipeline, services

    prepared = [notebook_pipeline.prepare(services.fetch(_state["services"], key)) for key in keys]
    probabilities, saliency = (part.numpy() for part in _state["run"](np.stack([image for image, _ in prepared])))
    for key, (_, picture), row, salient in zip(keys, prepared, probabilities, saliency, strict=True):
        png = notebook_pipeline.draw(picture, salient)
        services.publish(_state["services"], PEER, key, png, row, notebook_pipeline.grade_of(row))
