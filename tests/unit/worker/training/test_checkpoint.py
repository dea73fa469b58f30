from pathlib import Path

import numpy as np
import pytest

from worker.core.errors import UsageError
from worker.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


def test_checkpoint_is_restored_bit_by_bit(tmp_path: Path) -> None:
    state = {"network/0": np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32), "steps": np.int64(7)}
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, Checkpoint(state, 7, [{"epoch": 1, "kappa": None, "loss": 0.1}], [0.3]))
    found = read_checkpoint(path)
    assert (found.steps, found.history, found.losses) == (7, [{"epoch": 1, "kappa": None, "loss": 0.1}], [0.3])
    assert {name: array.tobytes() for name, array in found.state.items()} == {n: a.tobytes() for n, a in state.items()}


def test_truncated_checkpoint_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, Checkpoint({"steps": np.int64(7)}, 7, [], []))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"cannot read .*checkpoint\.npz"):
        read_checkpoint(path)


def test_checkpoint_that_cannot_be_written_raises_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*No such file or directory"):
        write_checkpoint(tmp_path / "nowhere" / "c.npz", Checkpoint({}, 0, [], []))
