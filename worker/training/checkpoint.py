"""Save and load the complete state of a fit, so that a resumed fit equals an uninterrupted one."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.storage.atomic_write import write_atomically

_ABOUT, _STATE = "about", "state/"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a fit.

    state: every variable by name. steps: number of batches trained on. history: metrics of each finished epoch.
    losses: batch losses of the unfinished epoch.
    """

    state: Mapping[str, NDArray[np.generic]]
    steps: int
    history: list[dict[str, Any]]
    losses: list[float]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint atomically. Raises UsageError if it cannot be written; the old one is then kept."""
    buffer = io.BytesIO()
    about = {"steps": checkpoint.steps, "history": checkpoint.history, "losses": checkpoint.losses}
    arrays: dict[str, Any] = {f"{_STATE}{name}": array for name, array in checkpoint.state.items()}
    arrays[_ABOUT] = np.array(json.dumps(about))
    np.savez(buffer, **arrays)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint. Raises UsageError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file[_ABOUT]))
            state = {name.removeprefix(_STATE): file[name] for name in file.files if name != _ABOUT}
        return Checkpoint(state, about["steps"], about["history"], about["losses"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
