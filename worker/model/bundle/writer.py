"""Write a model bundle, all or nothing."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError, UsageError
from worker.model.bundle.activation_ranges import (
    RANGES_FILE,
    ActivationRanges,
    parse_activation_ranges,
    serialise_activation_ranges,
)
from worker.model.bundle.bundle import MANIFEST_FILE, WEIGHTS_FILE, Manifest, read_manifest
from worker.model.bundle.ensemble import AnyManifest, EnsembleManifest
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.model.bundle.weights import parse_weights, serialise_weights


def write_bundle(
    folder: Path,
    draft: Manifest,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    float16_kernels: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write checked weights and their manifest into a new folder; the draft gets the SHA-256 of what is written.

    float16_kernels: store the kernels as float16, at half the size. extra_files: other files of the bundle, by name.
    Raises UsageError if the folder exists or its parent cannot be written to, ModelError if what would be written could
    not be read back, such as a value past float16.
    """
    data = serialise_weights(weights, float16_kernels=float16_kernels)
    parse_weights(data, source=f"{folder / WEIGHTS_FILE}", architecture=draft.architecture)
    manifest = draft.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    _write_files(folder, {WEIGHTS_FILE: data, MANIFEST_FILE: _encode(manifest), **(extra_files or {})})
    return manifest


def copy_bundle(source: Path, folder: Path, manifest: AnyManifest) -> None:
    """Write the weights of the bundle `source`, byte for byte, into a new folder with another manifest.

    Raises UsageError as `write_bundle`, ModelError if the weights are not those that the manifest promises.
    """
    if isinstance(manifest, EnsembleManifest):
        parts = zip(manifest.weights_files, manifest.split_files, strict=True)
        write_ensemble(folder, manifest, [(source / weights, source / split) for weights, split in parts])
    else:
        promised = manifest.ranges_sha256
        ranges = {} if promised is None else {RANGES_FILE: _copy_promised(source / RANGES_FILE, promised)}
        _write_network(source, folder, manifest, ranges)


def add_activation_ranges(source: Path, folder: Path, ranges: ActivationRanges) -> Manifest:
    """Write the bundle `source` of one network into a new folder, with these ranges. Raises as `copy_bundle`."""
    data = serialise_activation_ranges(ranges)
    parse_activation_ranges(data, source=f"{folder / RANGES_FILE}")
    manifest = read_manifest(source).model_copy(update={"ranges_sha256": hashlib.sha256(data).hexdigest()})
    _write_network(source, folder, manifest, {RANGES_FILE: data})
    return manifest


def write_ensemble(folder: Path, manifest: EnsembleManifest, parts: Sequence[tuple[Path, Path]]) -> None:
    """Write an ensemble into a new folder, the members' weights byte for byte. Raises as `copy_bundle`.

    parts: of each member the file of its weights, and where its split is if it has one.
    """
    files: dict[str, bytes] = {}
    names = zip(manifest.weights_files, manifest.split_files, strict=True)
    for (weights_name, split_name), (weights, split), member in zip(names, parts, manifest.members, strict=True):
        files[weights_name] = _copy_promised(weights, member.manifest.weights_sha256)
        files |= _copy_split(split, split_name, member.manifest)
    _write_files(folder, {**files, MANIFEST_FILE: _encode(manifest)})


def _write_network(source: Path, folder: Path, manifest: Manifest, extra_files: Mapping[str, bytes]) -> None:
    weights = _copy_promised(source / WEIGHTS_FILE, manifest.weights_sha256)
    split = _copy_split(source / SPLIT_FILE, SPLIT_FILE, manifest)
    _write_files(folder, {WEIGHTS_FILE: weights, MANIFEST_FILE: _encode(manifest), **split, **extra_files})


def _copy_promised(path: Path, promised: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != promised:
        raise ModelError(f"{path}: SHA-256 is {sha256}, the manifest promises {promised}")
    return data


def _copy_split(path: Path, name: str, manifest: Manifest) -> dict[str, bytes]:
    """Nothing where there is none. The record of a fit is read with it: a card needs it to leave out what was learnt
    from."""
    return {name: path.read_bytes()} if manifest.fit is not None and path.is_file() else {}


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
