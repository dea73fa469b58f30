"""One Celery task per image with the notebook's code: `celery -A tests.benchmarks.peers.celery_notebook worker`.

One process per core with one TensorFlow thread; the model is loaded and warm before the first task.
"""

import os
from typing import Any

import numpy as np
from celery import Celery
from celery.signals import worker_process_init

PEER = "celery_notebook"

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
    network, explained = notebook_pipeline.load_networks()
    blank = np.zeros((notebook_pipeline.SIZE_PX, notebook_pipeline.SIZE_PX, 3), np.float32)
    network.predict(blank[None], verbose=0)
    notebook_pipeline.explain_one(explained, blank, 0)
    _state.update(network=network, explained=explained, services=services.connect())


@app.task
def grade(key: str) -> None:
    """Grade a photograph by key and publish its overlay and row."""
    from tests.benchmarks.peers import notebook_pipeline, services

    image, picture = notebook_pipeline.prepare(services.fetch(_state["services"], key))
    probabilities = _state["network"].predict(image[None], verbose=0)[0]
    found = notebook_pipeline.grade_of(probabilities)
    saliency = notebook_pipeline.explain_one(_state["explained"], image, found)
    services.publish(_state["services"], PEER, key, notebook_pipeline.draw(picture, saliency), probabilities, found)
