"""Faults injected inside a worker process, passed as JSON in the variable FAULT_HOOKS."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

PROGRAM = "tests.faults.worker_program"
Stage = Literal[
    "leased", "fetching", "decoding", "inferring", "uploading", "uploaded", "before_commit", "committing", "committed",
    "reporting",
]  # fmt: skip


class Hooks(BaseModel):
    """Faults of one run; `worker_program` installs them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """Folder in which the workers of a run count how often a fault has happened."""
    kill_at: Stage | None = None
    kills: int = 1
    killer: str | None = None
    """URI suffix of the image that kills its worker whenever it is fetched."""
    fits_batch_of: int | None = None
    """Largest batch that fits the memory of the device."""
    poisons_first_image: bool = False
    """The network yields NaN for the first photograph that each worker grades."""
    rogue_decoder: bool = False
    """Photographs with the content `segfault`, `hang` or `hog` make their decoder process misbehave."""
    image_takes_s: float = 0.0
    """Delay of a forward pass per image, so that a short run lasts long enough for faults."""
    hangs_at_batch: int | None = None
    """Number of the forward pass, from 1, that never returns, once per run."""
    late_clock: Path | None = None
    """Requests to the store are signed with a clock that is one hour late while this file exists."""
    stuck_after_s: float | None = None
    """Timeout of the watchdog for a stuck chunk and for a stalled consumer."""
