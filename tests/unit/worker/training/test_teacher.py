"""A teacher grades the photographs of a fit once."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.training.eyes import write_eyes
from worker.core.errors import UsageError
from worker.core.settings import parse_settings
from worker.model.bundle.bundle import load_bundle
from worker.model.engines.factory import make_engine
from worker.model.engines.protocol import Engine
from worker.training.dataset import prepare_dataset
from worker.training.examples import read_examples
from worker.training.plan import DEFAULT_RECIPE
from worker.training.teacher import TEACHER_FILE, load_or_grade

RECIPE = DEFAULT_RECIPE.model_copy(update={"input_size_px": 32})
SETTINGS = parse_settings()


def grade(folder: Path, start: "list[Engine]") -> NDArray[np.float32]:
    """Grade the photographs of `folder` with the next engine of a list."""
    examples = read_examples(folder / "eyes.csv", SETTINGS, lambda _sentence: None, with_ungraded=True)
    index = prepare_dataset(
        examples,
        folder,
        recipe=RECIPE,
        manifest_sha256="0" * 64,
        settings=SETTINGS,
        on_progress=lambda _left_out: None,
    ).index
    assert index.grades[-1] is None
    return load_or_grade(examples, index, folder, start.pop, SETTINGS, lambda: None)


def test_probabilities_are_those_of_the_teacher_and_are_stored(tmp_path: Path, small_bundle: Path) -> None:
    manifest = write_eyes(tmp_path, 3)
    (tmp_path / "p0001.png").write_bytes(b"no picture")
    with manifest.open("a") as file:
        file.write("p0000.png,ungraded,patient-9,\n")
    engine = make_engine("openvino", load_bundle(str(small_bundle)), "float32")
    taught = grade(tmp_path, [engine])
    assert taught.shape == (3, 5)
    # The last photograph is the first one again, without a grade.
    assert taught[0].tobytes() == taught[2].tobytes()
    assert not np.array_equal(taught[0], taught[1])
    assert ((taught >= 0) & (taught <= 1)).all()
    assert grade(tmp_path, []).tobytes() == taught.tobytes()


def test_stored_probabilities_of_other_photographs_are_refused(tmp_path: Path) -> None:
    manifest = write_eyes(tmp_path, 3)
    with manifest.open("a") as file:
        file.write("p0000.png,ungraded,patient-9,\n")
    np.save(tmp_path / TEACHER_FILE, np.zeros((2, 5), np.float32))
    with pytest.raises(UsageError, match=r"teacher\.npy is float32 \(2, 5\), float32 \(4, 5\) is needed"):
        grade(tmp_path, [])
    (tmp_path / TEACHER_FILE).write_bytes(b"no array")
    with pytest.raises(UsageError, match="cannot read the teacher's probabilities"):
        grade(tmp_path, [])
