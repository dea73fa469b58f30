"""Make a model bundle from weights that Keras saved: 2 (`.h5`) or 3 (`.weights.h5`, `.keras`).

Weights are read as numbers and the description beside them as text; no object of a file is ever built.
"""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from worker.contract.errors import ModelError, UsageError
from worker.model.bundle import Manifest, describe_invalid
from worker.model.bundle_writer import write_bundle
from worker.model.hdf5 import list_datasets, open_hdf5, read_floats
from worker.model.keras_config import check_config
from worker.model.keras_layouts import name_keras2, name_keras3
from worker.model.layout import LAST_FEATURE_LAYER, weight_shapes
from worker.model.recipe import Recipe
from worker.model.weights import check_weights

_MAX_FILE_BYTES = 512 * 1024 * 1024
_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def import_weights(
    file: Path,
    out_dir: Path,
    *,
    recipe: Recipe,
    name: str,
    thresholds: tuple[float, float, float, float, float] = (0.5, 0.5, 0.5, 0.5, 0.5),
    target_layer: str = LAST_FEATURE_LAYER,
    training_data: str = "not stated",
    licence: str = "not stated",
    notes: str = "",
    half_kernels: bool = False,
) -> Manifest:
    """Write the bundle of a weights file into the new folder `out_dir`; the recipe must be that of its training.

    half_kernels: store kernels as float16. Raises ModelError for a file that is damaged, too large, or not of this
    network, naming the layer; UsageError for a name or text that no manifest takes, or if `out_dir` exists.
    """
    data = _read_file(file)
    weights = read_keras_weights(data, source=str(file))
    origin = f"Imported from weights with SHA-256 {hashlib.sha256(data).hexdigest()}."
    try:
        draft = Manifest(
            name=name,
            recipe=recipe,
            target_layer=target_layer,
            thresholds=thresholds,
            training_data=training_data,
            licence=licence,
            notes=f"{notes} {origin}".strip(),
            weights_sha256="0" * 64,
        )
    except ValidationError as error:
        raise UsageError(f"model bundle: {describe_invalid(error)}") from error
    return write_bundle(out_dir, draft, weights, half_kernels=half_kernels)


def read_keras_weights(data: bytes, *, source: str) -> dict[str, NDArray[np.float32]]:
    """The network's weights by name out of the content of a Keras file, its format told by its first bytes.

    Raises ModelError as `import_weights` does.
    """
    if data.startswith(_ZIP_START):
        data = _read_archive(data, source=source)
    if not data.startswith(_HDF5_START):
        raise ModelError(f"{source}: neither HDF5 nor a .keras archive")
    with open_hdf5(data, source=source) as file:
        if "model_config" in file.attrs:
            check_config(_text(file.attrs["model_config"], source=source), source=source)
        datasets = list_datasets(file, source=source)
        name_paths = name_keras3 if any(path.startswith("layers/") for path in datasets) else name_keras2
        arrays = {
            name: read_floats(datasets[path], _shape_of(name, source=f"{source}: {path}"), source=source)
            for name, path in name_paths(datasets, source=source).items()
        }
    return check_weights(arrays, source=source)


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ModelError(f"{file}: more than {_MAX_FILE_BYTES} bytes")
    return data


def _shape_of(name: str, *, source: str) -> tuple[int, ...]:
    shape = weight_shapes().get(name)
    if shape is None:
        raise ModelError(f"{source}: the network has no weight {name}")
    return shape


def _read_archive(data: bytes, *, source: str) -> bytes:
    """The weights of a `.keras` archive, its description checked; no other member is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_config(_read_member(archive, "config.json", source=source), source=source)
            return _read_member(archive, "model.weights.h5", source=source)
    # RuntimeError is what an encrypted member raises.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{source}: damaged archive: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str, *, source: str) -> bytes:
    members = [member for member in archive.infolist() if member.filename == name]
    if len(members) != 1:
        raise ModelError(f"{source}: has {len(members)} members {name}, one is needed")
    if members[0].file_size > _MAX_FILE_BYTES:
        raise ModelError(f"{source}: {name} has {members[0].file_size} bytes, {_MAX_FILE_BYTES} are allowed")
    return archive.read(members[0])


def _text(attribute: object, *, source: str) -> bytes:
    if isinstance(attribute, str):
        return attribute.encode()
    if isinstance(attribute, bytes):
        return attribute
    raise ModelError(f"{source}: model_config is {type(attribute).__name__}, text is needed")
