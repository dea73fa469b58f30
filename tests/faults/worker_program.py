"""`fundus worker` with the faults of FAULT_HOOKS installed."""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import botocore.auth
from sqlalchemy import Engine, event

from producer.cli import main
from tests.faults.hooks import Hooks
from worker.core.errors import AcceleratorMemoryError
from worker.imaging.sandbox.pool import DecoderPool
from worker.inference import image_grader, pipeline
from worker.report.destination import Destination

ROGUE_DECODER = (str(Path(__file__).parents[1] / "unit" / "worker" / "imaging" / "sandbox" / "rogue_decoder.py"),)

hooks = Hooks.model_validate_json(os.environ["FAULT_HOOKS"])
_settling = threading.local()
_dying = threading.Lock()


def at_stage(stage: str) -> None:
    """Kill this process if `stage` is the one to die at and kills are left."""
    if stage != hooks.kill_at:
        return
    with _dying:  # Two threads must not count two kills as one.
        if any(first_time(f"killed-{stage}-{number}") for number in range(hooks.kills)):
            os.kill(os.getpid(), signal.SIGKILL)


def first_time(fault: str) -> bool:
    """Return whether no worker of this run has had this fault before."""
    try:
        (hooks.folder / fault).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def around(work: Callable[..., Any], *, before: str | None = None, after: str | None = None) -> Callable[..., Any]:
    """Wrap `work` so that stages are reached before and after it."""

    def staged(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            at_stage(before)
        result = work(*arguments, **named)
        if after is not None:
            at_stage(after)
        return result

    return staged


def fetch(storage: Any, uri: str, **named: Any) -> Any:
    """Fetch a photograph; kill this process if it is the killer image."""
    if hooks.killer is not None and uri.endswith(hooks.killer):
        os.kill(os.getpid(), signal.SIGKILL)
    at_stage("fetching")
    return _fetch(storage, uri, **named)


def settle(*arguments: Any, **named: Any) -> int:
    """Settle a chunk, marking this thread so that `commit` recognises its transaction."""
    at_stage("before_commit")
    _settling.now = True
    try:
        written = _settle(*arguments, **named)
    finally:
        _settling.now = False
    at_stage("committed")
    return written


def commit(_connection: Any) -> None:
    """Reach the stage `committing`: rows are written and not yet committed."""
    if getattr(_settling, "now", False):
        at_stage("committing")


def limit_device(predict: Callable[..., Any], size: int) -> Callable[..., Any]:
    """Simulate a device with memory for `size` images."""

    def limited(self: Any, enhanced: Sequence[Any]) -> Any:
        if len(enhanced) > size:
            raise AcceleratorMemoryError(f"a batch of {len(enhanced)} images does not fit")
        return predict(self, enhanced)

    return limited


def delay(predict: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Simulate a slow device."""

    def delayed(self: Any, enhanced: Sequence[Any]) -> Any:
        time.sleep(seconds * len(enhanced))
        return predict(self, enhanced)

    return delayed


def run_late(clock: Callable[[], datetime], file: Path) -> Callable[[], datetime]:
    """Return a clock that is one hour late while `file` exists."""
    return lambda: clock() - timedelta(hours=file.exists())


def hang(predict: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Simulate a device that never returns from one batch."""
    numbers = itertools.count(1)

    def hanging(self: Any, enhanced: Sequence[Any]) -> Any:
        if next(numbers) == at and first_time("hung"):
            threading.Event().wait()
        return predict(self, enhanced)

    return hanging


def poison(graph: Callable[..., Any]) -> Callable[..., Any]:
    """Simulate a network that yields NaN for the first photograph it sees, also when it sees it again."""
    poisoned: list[float] = []

    def poisonous(images: Any, white: Any) -> Any:
        # Sums of bytes are exact and identify a photograph; warm-up images are black and sum to 0.
        sums = images.numpy().sum(axis=(1, 2, 3))
        poisoned.extend(sums[sums > 0][: 1 - len(poisoned)])
        logits, maps = graph(images, white)
        hit = np.isin(sums, poisoned)[:, None]
        return tf.where(hit, np.float32("nan"), logits), maps

    return poisonous


def poison_graph(init: Callable[..., None]) -> Callable[..., None]:
    """An engine's constructor after which its graph is poisonous."""

    def construct(engine: Any, *given: Any) -> None:
        init(engine, *given)
        engine._graph = poison(engine._graph)

    return construct


_fetch, _settle = image_grader.fetch_photograph, pipeline.settle_chunk
image_grader.fetch_photograph = fetch
pipeline.settle_chunk = settle
pipeline.lease_chunk = around(pipeline.lease_chunk, after="leased")
image_grader.upload_overlay = around(image_grader.upload_overlay, before="uploading", after="uploaded")
Destination.write = around(Destination.write, after="reporting")  # type: ignore[method-assign]
DecoderPool.submit = around(DecoderPool.submit, after="decoding")  # type: ignore[method-assign]
if hooks.late_clock is not None:
    botocore.auth.get_current_datetime = run_late(botocore.auth.get_current_datetime, hooks.late_clock)
event.listen(Engine, "commit", commit)

if __name__ == "__main__":
    import numpy as np
    import tensorflow as tf

    from worker.inference import runtime
    from worker.model.engines.tensorflow_engine import TensorFlowEngine

    TensorFlowEngine.predict = around(TensorFlowEngine.predict, before="inferring")  # type: ignore[method-assign]
    if hooks.image_takes_s:
        TensorFlowEngine.predict = delay(TensorFlowEngine.predict, hooks.image_takes_s)  # type: ignore[method-assign]
    if hooks.fits_batch_of is not None:
        warm_up = TensorFlowEngine.warm_up
        TensorFlowEngine.warm_up = lambda self, _: warm_up(self, 1)  # type: ignore[method-assign]
        TensorFlowEngine.predict = limit_device(TensorFlowEngine.predict, hooks.fits_batch_of)  # type: ignore[method-assign]
    if hooks.hangs_at_batch is not None:
        TensorFlowEngine.predict = hang(TensorFlowEngine.predict, hooks.hangs_at_batch)  # type: ignore[method-assign]
    if hooks.poisons_first_image:
        TensorFlowEngine.__init__ = poison_graph(TensorFlowEngine.__init__)  # type: ignore[method-assign]
    if hooks.rogue_decoder:
        runtime.DecoderPool = partial(DecoderPool, program=ROGUE_DECODER)  # type: ignore[misc,assignment]
    if hooks.stuck_after_s is not None:
        timeouts = {"stuck_after_s": hooks.stuck_after_s, "stalled_after_s": hooks.stuck_after_s}
        runtime.Watchdog = partial(runtime.Watchdog, **timeouts)  # type: ignore[misc,assignment]
        runtime.HEARTBEAT_INTERVAL_S = 1.0  # type: ignore[attr-defined]
    sys.argv = ["fundus", "worker"]
    sys.exit(main())
