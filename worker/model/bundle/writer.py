"""Write a model bundle atomically: completely or not at all."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.storage.atomic_write import write_atomically
from worker.model.bundle.activation_ranges import (
    MAX_RANGES_BYTES,
    RANGES_FILE,
    ActivationRanges,
    parse_activation_ranges,
    serialise_activation_ranges,
)
from worker.model.bundle.bundle import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
    Manifest,
    read_bounded,
    read_manifest,
    read_verified,
)
from worker.model.bundle.ensemble import AnyManifest, EnsembleManifest, read_any_manifest
from worker.model.bundle.familiarity import (
    FAMILIARITY_FILE,
    MAX_FAMILIARITY_BYTES,
    Familiarity,
    serialise_familiarity,
)
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.model.bundle.golden import (
    GOLDEN_FILE,
    MAX_GOLDEN_BYTES,
    GoldenInputs,
    parse_golden_inputs,
    serialise_golden_inputs,
)
from worker.model.bundle.weights import parse_weights, serialise_weights

MODE = 0o644
"""Bundles hold no patient data, and workers may run as another user."""


def write_bundle(
    folder: Path,
    draft: Manifest,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    float16_kernels: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write weights and their manifest into a new folder, and return the manifest with the SHA-256 of the weights.

    draft: a manifest with any SHA-256; those of ranges, feature space and golden inputs are dropped. float16_kernels:
    store kernels as float16, at half the size. extra_files: other files of the bundle, by name.
    Raises UsageError if the folder exists or its parent is not writable, ModelError if the bundle could not be read
    back, for instance because a value exceeds the range of float16.
    """
    data = serialise_weights(weights, float16_kernels=float16_kernels)
    parse_weights(data, source=f"{folder / WEIGHTS_FILE}", architecture=draft.architecture)
    # Files that were measured with other weights are not those of these.
    measured = dict.fromkeys(("ranges_sha256", "familiarity_sha256", "golden_sha256", "evidence_scale"))
    manifest = draft.model_copy(update={**measured, "weights_sha256": hashlib.sha256(data).hexdigest()})
    _write_files(folder, {WEIGHTS_FILE: data, MANIFEST_FILE: _encode(manifest), **(extra_files or {})})
    return manifest


def copy_bundle(source: Path, folder: Path, manifest: AnyManifest) -> None:
    """Copy the files of the bundle `source` into a new folder with another manifest.

    Golden inputs are left out, since their answers depend on the operating point; `add_golden_inputs` makes new ones.
    Raises UsageError as `write_bundle` does, ModelError if a file has another SHA-256 than in the manifest.
    """
    manifest = manifest.model_copy(update={"golden_sha256": None})
    _copy_files(source, folder, manifest, _copy_familiarity(source, manifest))


def add_activation_ranges(source: Path, folder: Path, ranges: ActivationRanges) -> Manifest:
    """Copy the bundle `source` of one network into a new folder, with these ranges. Raises as `copy_bundle` does."""
    data = serialise_activation_ranges(ranges)
    parse_activation_ranges(data, source=f"{folder / RANGES_FILE}")
    manifest = read_manifest(source).model_copy(update={"ranges_sha256": hashlib.sha256(data).hexdigest()})
    _write_network(source, folder, manifest, {RANGES_FILE: data, **_copy_familiarity(source, manifest)})
    return manifest


def add_familiarity(source: Path, folder: Path, manifest: AnyManifest, familiarity: Familiarity) -> AnyManifest:
    """Copy the bundle `source`, which has this manifest, into a new folder, with these feature spaces.

    Returns the new manifest. Raises as `copy_bundle` does.
    """
    data = serialise_familiarity(familiarity)
    changed = manifest.model_copy(update={"familiarity_sha256": hashlib.sha256(data).hexdigest()})
    _copy_files(source, folder, changed, {FAMILIARITY_FILE: data})
    return changed


def attach_golden_inputs(folder: Path, golden: GoldenInputs, *, evidence_scale: float | None = None) -> AnyManifest:
    """Add golden inputs and the scale of the maps to the bundle in `folder`, or replace them, and return its manifest.

    The model id stays. evidence_scale: None leaves that of the bundle.

    Raises ModelError for an invalid manifest or golden inputs of another model, UsageError if the folder cannot be
    written.
    """
    data = serialise_golden_inputs(golden)
    sizes = [recipe.input_size_px for recipe in read_any_manifest(folder).recipes]
    parse_golden_inputs(data, source=f"{folder / GOLDEN_FILE}", input_sizes_px=sizes)
    path = folder / MANIFEST_FILE
    document = json.loads(read_bounded(path, MAX_MANIFEST_BYTES))
    if evidence_scale is not None:
        document["evidence_scale"] = evidence_scale
    document["golden_sha256"] = hashlib.sha256(data).hexdigest()
    manifest = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        for file, content in ((folder / GOLDEN_FILE, data), (path, manifest)):
            write_atomically(file, content)
            file.chmod(MODE)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    return read_any_manifest(folder)


def write_ensemble(
    folder: Path,
    manifest: EnsembleManifest,
    parts: Sequence[tuple[Path, Path]],
    *,
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write an ensemble into a new folder, with copies of the members' files. Raises as `copy_bundle` does.

    parts: the paths of each member's weights and of its split; the split may be missing. extra_files: other files, by
    name.
    """
    files: dict[str, bytes] = {}
    names = zip(manifest.weights_files, manifest.split_files, strict=True)
    for (weights_name, split_name), (weights, split), member in zip(names, parts, manifest.members, strict=True):
        files[weights_name] = read_verified(weights, MAX_WEIGHTS_BYTES, member.manifest.weights_sha256)
        files |= _copy_split(split, split_name, member.manifest)
    _write_files(folder, {**files, **(extra_files or {}), MANIFEST_FILE: _encode(manifest)})


def _copy_files(source: Path, folder: Path, manifest: AnyManifest, familiarity: Mapping[str, bytes]) -> None:
    """Copy weights, splits, ranges and golden inputs into a new folder, with the given file of feature spaces."""
    if isinstance(manifest, EnsembleManifest):
        parts = zip(manifest.weights_files, manifest.split_files, strict=True)
        pairs = [(source / weights, source / split) for weights, split in parts]
        write_ensemble(folder, manifest, pairs, extra_files={**familiarity, **_copy_golden(source, manifest)})
    else:
        _write_network(source, folder, manifest, {**_copy_ranges(source, manifest), **familiarity})


def _write_network(source: Path, folder: Path, manifest: Manifest, extra_files: Mapping[str, bytes]) -> None:
    weights = read_verified(source / WEIGHTS_FILE, MAX_WEIGHTS_BYTES, manifest.weights_sha256)
    split = _copy_split(source / SPLIT_FILE, SPLIT_FILE, manifest)
    golden = _copy_golden(source, manifest)
    _write_files(folder, {WEIGHTS_FILE: weights, MANIFEST_FILE: _encode(manifest), **split, **golden, **extra_files})


def _copy_golden(source: Path, manifest: AnyManifest) -> dict[str, bytes]:
    sha256, path = manifest.golden_sha256, source / GOLDEN_FILE
    return {} if sha256 is None else {GOLDEN_FILE: read_verified(path, MAX_GOLDEN_BYTES, sha256)}


def _copy_ranges(source: Path, manifest: Manifest) -> dict[str, bytes]:
    sha256 = manifest.ranges_sha256
    return {} if sha256 is None else {RANGES_FILE: read_verified(source / RANGES_FILE, MAX_RANGES_BYTES, sha256)}


def _copy_familiarity(source: Path, manifest: AnyManifest) -> dict[str, bytes]:
    sha256, path = manifest.familiarity_sha256, source / FAMILIARITY_FILE
    return {} if sha256 is None else {FAMILIARITY_FILE: read_verified(path, MAX_FAMILIARITY_BYTES, sha256)}


def _copy_split(path: Path, name: str, manifest: Manifest) -> dict[str, bytes]:
    """Return the split of a fitted network, if it exists. A model card needs it to exclude the training images."""
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
