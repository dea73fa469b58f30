"""A fit of a few epochs by the command that users call, on drawn photographs."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.unit.worker.training.eyes import write_eyes
from worker.model.network.backend import Backend

VALIDATION_SHARE = 0.4
"""The drawn eyes belong to few patients, who stay together."""


@dataclass(frozen=True, slots=True)
class Fit:
    """seconds: of the whole command: imports, preparation, compilation, training, validation, bundle."""

    backend: Backend
    backbone: str
    size_px: int
    images: int
    epochs: int
    seconds: float


def measure_fit(backend: Backend, backbone: str, size_px: int, images: int, epochs: int) -> Fit:
    """Fit in a process of its own. Raises CalledProcessError if the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_eyes(Path(folder), images)
        options = {
            "manifest": manifest, "out": Path(folder) / "fit", "backend": backend, "backbone": backbone,
            "size": size_px, "epochs": epochs, "validation-share": VALIDATION_SHARE, "batch-size": min(32, images // 6),
        }  # fmt: skip
        command = [sys.executable, "-m", "producer", "model", "fit", *(f"--{key}={options[key]}" for key in options)]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        return Fit(backend, backbone, size_px, images, epochs, time.perf_counter() - started)
