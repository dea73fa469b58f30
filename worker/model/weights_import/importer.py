"""Make a model bundle from weights that Keras or PyTorch saved and the recipe of their preprocessing."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from worker.core.errors import ModelError, UsageError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121, last_feature_layer
from worker.model.bundle.bundle import Manifest, describe_validation_error, read_bounded
from worker.model.bundle.weights import parse_weights
from worker.model.bundle.writer import write_bundle
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS, Thresholds
from worker.model.weights_import.reader_program import REJECTED
from worker.model.weights_import.weights_file import MAX_FILE_BYTES

READ_TIMEOUT_S = 120.0
"""Reading a file of 28 MB takes half a second."""
SAVED_MODEL_WEIGHTS = Path("variables", "variables.data-00000-of-00001")
_MAX_DETAIL_BYTES = 1000
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""The environment of the reading process. Other variables may contain passwords, and the file is untrusted."""


def import_weights(
    file: Path,
    out_dir: Path,
    *,
    recipe: Recipe,
    name: str,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    architecture: str = DENSENET121,
    target_layer: str | None = None,
    explained_outputs: tuple[int, int] = ALL_OUTPUTS,
    training_data: str = "not stated",
    licence: str = "not stated",
    notes: str = "",
    float16_kernels: bool = False,
) -> Manifest:
    """Write a bundle with the weights of a Keras file, PyTorch file or SavedModel into the new folder `out_dir`.

    recipe: the preprocessing of the training images. float16_kernels: store kernels as float16.
    Raises ModelError for a file that is damaged, too large, or of another network, naming the layer; UsageError if the
    manifest would be invalid, or if `out_dir` exists.
    """
    folder = file if file.is_dir() else None
    data = read_bounded(file if folder is None else folder / SAVED_MODEL_WEIGHTS, MAX_FILE_BYTES)
    origin = f"Imported from weights with SHA-256 {hashlib.sha256(data).hexdigest()}."
    try:
        draft = Manifest(
            name=name,
            architecture=architecture,
            recipe=recipe,
            target_layer=target_layer or last_feature_layer(architecture),
            thresholds=thresholds,
            explained_outputs=explained_outputs,
            training_data=training_data,
            licence=licence,
            notes=f"{notes} {origin}".strip(),
            weights_sha256="0" * 64,
        )
    except ValidationError as error:
        raise UsageError(f"model bundle: {describe_validation_error(error)}") from error
    weights = read_in_subprocess(
        data if folder is None else b"",
        source=str(file),
        folder=folder,
        architecture=architecture,
        recipe=recipe,
    )
    return write_bundle(out_dir, draft, weights, float16_kernels=float16_kernels)


def read_in_subprocess(
    data: bytes,
    *,
    source: str,
    folder: Path | None = None,
    recipe: Recipe,
    architecture: str = DENSENET121,
    timeout_s: float = READ_TIMEOUT_S,
) -> dict[str, NDArray[np.float32]]:
    """Return the network's weights by name from the content of a file, or from a SavedModel's folder.

    A separate process reads them, because the libraries crash on some damaged files. Raises ModelError as
    `import_weights` does.
    """
    arguments = [source, architecture, recipe.model_dump_json(), *([] if folder is None else [str(folder)])]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-m", "worker.model.weights_import.reader_program", *arguments],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{source}: not read within {timeout_s:g} s") from error
    if done.returncode == REJECTED:
        detail = done.stdout[:_MAX_DETAIL_BYTES].decode(errors="replace")
        # Names in the file must not contain control characters of the terminal.
        raise ModelError("".join(letter if letter.isprintable() else "?" for letter in detail))
    if done.returncode != 0:
        raise ModelError(f"{source}: damaged: its reading process exited with status {done.returncode}")
    return parse_weights(done.stdout, source=source, architecture=architecture)
