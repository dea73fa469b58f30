"""What the tests of the JAX engine call in its process."""

import resource
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.unit.worker.model.engines.jax_process import engine
from worker.core.predictions import Prediction
from worker.model.engines.protocol import EngineDescription

Images = list[NDArray[np.uint8]]


def predict(bundle: Path, images: Images, precision: str = "auto") -> list[Prediction]:
    found: list[Prediction] = engine(bundle, precision).predict(images)
    return found


def list_tensorflow_modules(bundle: Path) -> tuple[EngineDescription, list[str]]:
    description: EngineDescription = engine(bundle).description
    return description, [name for name, module in sys.modules.items() if name.startswith("tensorflow") and module]


def compile_sizes(bundle: Path, images: Images) -> list[list[tuple[int, str]]]:
    made = engine(bundle)
    made._programs.clear()
    made.warm_up(len(images))
    warm = sorted(made._programs)
    made.predict(images[:2])
    return [warm, sorted(made._programs)]


def map_classes(bundle: Path, images: Images) -> None:
    engine(bundle).class_maps(images)


def use_tensorflow(bundle: Path) -> None:
    from worker.model.network.backend import use_backend

    engine(bundle)
    use_backend("tensorflow")


def exhaust_memory(bundle: Path, images: Images) -> None:
    made = engine(bundle)
    made._programs[len(images), "uint8"] = made._trace(len(images), np.uint8).compile()  # Before memory is short.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**23, hard))
    try:
        made.predict(images)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
