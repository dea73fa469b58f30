"""Write a model bundle, all or nothing."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import ModelError, UsageError
from worker.model.bundle import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from worker.model.ensemble_bundle import AnyManifest, EnsembleManifest
from worker.model.fit_record import SPLIT_FILE
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
    parse_weights(data, source=f"{folder / WEIGHTS_FILE}", architecture=draft.architecture)
    manifest = draft.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    _write_files(folder, {WEIGHTS_FILE: data, MANIFEST_FILE: _encode(manifest), **(beside or {})})
    return manifest


def rewrite_bundle(source: Path, folder: Path, manifest: AnyManifest) -> None:
    """Write the weights of the bundle `source`, byte for byte, into a new folder with another manifest.

    Raises UsageError as `write_bundle`, ModelError if the weights are not those that the manifest promises.
    """
    if isinstance(manifest, EnsembleManifest):
        write_ensemble(folder, manifest, [source / name for name in manifest.weights_files])
    else:
        weights = _copy_weights(source / WEIGHTS_FILE, manifest)
        # The record of a fit is read with the weights: a card needs it to leave out what was learnt from.
        split = source / SPLIT_FILE
        beside = {SPLIT_FILE: split.read_bytes()} if manifest.fit is not None and split.is_file() else {}
        _write_files(folder, {WEIGHTS_FILE: weights, MANIFEST_FILE: _encode(manifest), **beside})


def write_ensemble(folder: Path, manifest: EnsembleManifest, weights_files: Sequence[Path]) -> None:
    """Write an ensemble into a new folder, the members' weights byte for byte. Raises as `rewrite_bundle`."""
    members = zip(manifest.weights_files, weights_files, manifest.members, strict=True)
    files = {name: _copy_weights(path, member.manifest) for name, path, member in members}
    _write_files(folder, {**files, MANIFEST_FILE: _encode(manifest)})


def _copy_weights(path: Path, manifest: Manifest) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != manifest.weights_sha256:
        raise ModelError(f"{path}: SHA-256 is {sha256}, the manifest promises {manifest.weights_sha256}")
    return data


def _encode(manifest: AnyManifest) -> bytes:
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"cannot write into {folder.parent}: {error.strerror}") from error
    try:
        unfinished.chmod(0o755)
        for name, data in files.items():
            (unfinished / name).write_bytes(data)
        if folder.exists():
            raise UsageError(f"{folder} exists; name a new folder")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
