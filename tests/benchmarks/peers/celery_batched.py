"""One Celery task per 16 images: `celery -A tests.benchmarks.peers.celery_batched worker`.

The notebook's steps with full decoding; the network runs once for the batch, compiled, with one tape for all. A process
per core, each with the model loaded and warm before its first task, and one TensorFlow thread.
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

    from tests.benchmarks.peers import notebook_way, services

    cv2.setNumThreads(1)
    run = notebook_way.compile_batch(notebook_way.load_networks()[1])
    run(np.zeros((BATCH, notebook_way.SIZE_PX, notebook_way.SIZE_PX, 3), np.float32))
    _state.update(run=run, services=services.connect())


@app.task
def grade_batch(keys: list[str]) -> None:
    """Some photographs from their keys to their overlays and rows."""
    from tests.benchmarks.peers import notebook_way, services

    prepared = [notebook_way.prepare(services.fetch(_state["services"], key)) for key in keys]
    probabilities, saliency = (part.numpy() for part in _state["run"](np.stack([image for image, _ in prepared])))
    for key, (_, picture), row, salient in zip(keys, prepared, probabilities, saliency, strict=True):
        png = notebook_way.draw(picture, salient)
        services.publish(_state["services"], PEER, key, png, row, notebook_way.grade_of(row))
