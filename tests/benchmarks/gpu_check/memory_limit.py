"""Let a batch exceed the memory for real, and see it halved until it fits."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.engine_acceptance import Candidate, engine_process
from tests.benchmarks.gpu_check.engine_speed import draw_inputs
from worker.core.predictions import ModelInput
from worker.inference.batcher import Batcher
from worker.model.bundle.ensemble import load_model
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.factory import NVIDIA_DEVICE, make_engine

SPARE_SHARE = 9
"""An engine on a processor may allocate this many times the size of the images more than it has."""
GPU_MEMORY_MB = 1024


@dataclass(frozen=True, slots=True)
class Halving:
    """batches: sizes that were tried, in order. answered: images with a prediction in the end."""

    batches: tuple[int, ...]
    answered: int


def measure_halving(bundle: str, candidate: Candidate, batch: int) -> Halving:
    """Submit `batch` images to a batcher whose device has memory for fewer."""
    with engine_process() as call:
        halving: Halving = call(_exceed, bundle, candidate, batch)
        return halving


def _exceed(bundle: str, candidate: Candidate, batch: int) -> Halving:
    on_gpu = NVIDIA_DEVICE.exists()
    options = DeviceOptions(memory_mb=GPU_MEMORY_MB if on_gpu else None)
    engine: Any = make_engine(candidate.setting[0], load_model(bundle), candidate.setting[1], options)
    images = draw_inputs(engine.bundle, batch)
    # Compiled before memory is short; a size is run for the first time with the limit.
    for network in getattr(engine, "_members", [engine]):
        network.compile(batch)
    if not on_gpu:
        _limit_memory(SPARE_SHARE * _count_bytes(images))
    tried: list[int] = []

    def predict(inputs: Any) -> Any:
        tried.append(len(inputs))
        return engine.predict(inputs)

    batcher = Batcher(predict, max_batch_size=batch, max_wait_ms=1000)
    batcher.announce(batch)
    pending = [batcher.submit(image) for image in images]
    answered = sum(one.exception() is None for one in pending)
    batcher.close()
    return Halving(tuple(tried), answered)


def _count_bytes(images: Sequence[ModelInput]) -> int:
    return sum(picture.nbytes for image in images for picture in (image if isinstance(image, tuple) else (image,)))


def _limit_memory(spare_bytes: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + spare_bytes, hard))
