"""Faults that have to happen inside a worker: what they are, and how often. Comes as JSON in FAULT_HOOKS."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

PROGRAM = "tests.faults.worker_program"
Stage = Literal[
    "leased", "fetching", "decoding", "inferring", "uploading", "uploaded", "before_commit", "committing", "committed",
    "reporting",
]  # fmt: skip


class Hooks(BaseModel):
    """None of them is in the shipped program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """Where the workers of one trial agree on how often a fault has happened."""
    kill_at: Stage | None = None
    kills: int = 1
    killer: str | None = None
    """The end of the reference of an image that kills its worker whenever it is fetched."""
    fits_batch_of: int | None = None
    """More images in one forward pass exhaust the device's memory."""
    poisons_first_image: bool = False
    """The network yields NaN for the first photograph that a worker sees, whenever it sees it."""
    rogue_decoder: bool = False
    """Photographs can order their decoding process to misbehave: `segfault`, `hang`, `hog`."""
    image_takes_s: float = 0.0
    """So long a forward pass takes longer for each of its photographs, so that a short run lasts for many faults."""
    hangs_at_batch: int | None = None
    """The forward pass, counted from 1 and once in a trial, that never returns."""
    signs_late: int = 0
    """So many requests to the store are signed by a clock that is an hour off."""
    stuck_after_s: float | None = None
    """How soon the watchdog loses patience, with a chunk or with the consumer."""
