"""Write a model bundle, all or nothing."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import UsageError
from worker.model.bundle import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from worker.model.weights import parse_weights, serialise_weights


def write_bundle(
    folder: Path,
    draft: Manifest,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    half_kernels: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write checked weights and their manifest into a new folder; the draft gets the SHA-256 of what is written.

    half_kernels: store the kernels as float16, at half the size. beside: other files of the bundle, by name.
    Raises UsageError if the folder exists or its parent cannot be written to, ModelError if what would be written could
    not be read back, such as a value past float16.
    """
    data = serialise_weights(weights, half_kernels=half_kernels)
    parse_weights(data, source=f"{folder / WEIGHTS_FILE}")
    manifest = draft.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"cannot write into {folder.parent}: {error.strerror}") from error
    try:
        unfinished.chmod(0o755)
        (unfinished / WEIGHTS_FILE).write_bytes(data)
        (unfinished / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for name, content in (beside or {}).items():
            (unfinished / name).write_bytes(content)
        if folder.exists():
            raise UsageError(f"{folder} exists; name a new folder")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest
