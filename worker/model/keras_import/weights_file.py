"""Read the network's weights out of a file that Keras saved: 2 (`.h5`) or 3 (`.weights.h5`, `.keras`).

Weights are read as numbers and the description beside them as text; no object of a file is ever built.
"""

import io
import zipfile
import zlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.architecture import weight_shapes
from worker.model.bundle.weights import check_weights
from worker.model.keras_import.config_check import check_config
from worker.model.keras_import.hdf5 import list_datasets, open_hdf5, read_floats
from worker.model.keras_import.layer_names import name_keras2, name_keras3

MAX_FILE_BYTES = 512 * 1024 * 1024
_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


class Check(Protocol):
    """Refuses a description, which is JSON, with a ModelError."""

    def __call__(self, config: bytes, *, source: str) -> None:
        """source: names the file in errors."""


def read_keras_weights(data: bytes, *, source: str) -> dict[str, NDArray[np.float32]]:
    """The network's weights by name out of the content of a Keras file, its format told by its first bytes.

    Raises ModelError for content that is damaged, too large, or not of this network, naming the layer.
    """
    with open_hdf5(unpack_hdf5(data, source=source, check=check_config), source=source) as file:
        if "model_config" in file.attrs:
            check_config(_text(file.attrs["model_config"], source=source), source=source)
        datasets = list_datasets(file, source=source)
        name_paths = name_keras3 if any(path.startswith("layers/") for path in datasets) else name_keras2
        arrays = {
            name: read_floats(datasets[path], _shape_of(name, source=f"{source}: {path}"), source=source)
            for name, path in name_paths(datasets, source=source).items()
        }
    return check_weights(arrays, source=source)


def unpack_hdf5(data: bytes, *, source: str, check: Check | None = None) -> bytes:
    """The HDF5 file that the content is, or that a `.keras` archive holds. check: what its description is put to.

    Raises ModelError for content that is neither.
    """
    if data.startswith(_ZIP_START):
        data = _read_archive(data, source=source, check=check)
    if not data.startswith(_HDF5_START):
        raise ModelError(f"{source}: neither HDF5 nor a .keras archive")
    return data


def _shape_of(name: str, *, source: str) -> tuple[int, ...]:
    shape = weight_shapes().get(name)
    if shape is None:
        raise ModelError(f"{source}: the network has no weight {name}")
    return shape


def _read_archive(data: bytes, *, source: str, check: Check | None) -> bytes:
    """The weights of a `.keras` archive; no other member is read but the description, where it is checked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if check is not None:
                check(_read_member(archive, "config.json", source=source), source=source)
            return _read_member(archive, "model.weights.h5", source=source)
    # RuntimeError is what an encrypted member raises.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{source}: damaged archive: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str, *, source: str) -> bytes:
    members = [member for member in archive.infolist() if member.filename == name]
    if len(members) != 1:
        raise ModelError(f"{source}: has {len(members)} members {name}, one is needed")
    if members[0].file_size > MAX_FILE_BYTES:
        raise ModelError(f"{source}: {name} has {members[0].file_size} bytes, {MAX_FILE_BYTES} are allowed")
    return archive.read(members[0])


def _text(attribute: object, *, source: str) -> bytes:
    if isinstance(attribute, str):
        return attribute.encode()
    if isinstance(attribute, bytes):
        return attribute
    raise ModelError(f"{source}: model_config is {type(attribute).__name__}, text is needed")
