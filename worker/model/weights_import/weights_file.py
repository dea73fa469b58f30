"""Read the network's weights from a file that Keras 2 (`.h5`) or Keras 3 (`.weights.h5`, `.keras`) saved.

Weights are read as numbers and the model's description as text; no object of a file is ever built.
"""

import io
import zipfile
import zlib
from collections.abc import Container, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.bundle.weights import check_weights
from worker.model.weights_import.config_check import check_config
from worker.model.weights_import.hdf5 import list_datasets, open_hdf5, read_floats
from worker.model.weights_import.layer_names import Layer, densenet_layers, match_keras2, match_keras3

MAX_FILE_BYTES = 512 * 1024 * 1024
_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


class Check(Protocol):
    """Raises ModelError for a description, which is JSON, of another network."""

    def __call__(self, config: bytes, *, source: str) -> None:
        """source: names the file in errors."""


def read_keras_weights(data: bytes, *, source: str) -> dict[str, NDArray[np.float32]]:
    """Return DenseNet-121's weights by name from the content of a Keras file.

    Raises ModelError for content that is damaged, too large, or of another network, naming the layer.
    """
    return check_weights(read_layers(data, densenet_layers(), source=source, check=check_config), source=source)


def read_layers(
    data: bytes,
    layers: Sequence[Layer],
    *,
    source: str,
    check: Check | None = None,
    skipped: Container[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Return the weights of some layers by name; the format of the file is recognised by its first bytes.

    check: is called with the model's description, if the file has one. skipped: names of weights that are not read.
    Raises ModelError as `read_keras_weights` does.
    """
    with open_hdf5(_unpack_hdf5(data, source=source, check=check), source=source) as file:
        if check is not None and "model_config" in file.attrs:
            check(_text(file.attrs["model_config"], source=source), source=source)
        datasets = list_datasets(file, source=source)
        match = match_keras3 if any(path.startswith("layers/") for path in datasets) else match_keras2
        paths = match(datasets, layers, source=source)
        shapes = {f"{layer.name}/{weight}": shape for layer in layers for weight, shape in layer.shapes.items()}
        wanted = [name for name in shapes if name not in skipped]
        if missing := [name for name in wanted if name not in paths]:
            raise ModelError(
                f"{source}: {len(missing)} of {len(wanted)} weights are missing, the first is {missing[0]}"
            )
        return {name: read_floats(datasets[paths[name]], shapes[name], source=source) for name in wanted}


def _unpack_hdf5(data: bytes, *, source: str, check: Check | None) -> bytes:
    """Return the HDF5 file that the content is, or that a `.keras` archive holds."""
    if data.startswith(_ZIP_START):
        data = _read_archive(data, source=source, check=check)
    if not data.startswith(_HDF5_START):
        raise ModelError(f"{source}: neither HDF5 nor a .keras archive")
    return data


def _read_archive(data: bytes, *, source: str, check: Check | None) -> bytes:
    """Return the weights of a `.keras` archive. Of its other members, only a description to be checked is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if check is not None:
                check(_read_member(archive, "config.json", source=source), source=source)
            return _read_member(archive, "model.weights.h5", source=source)
    # zipfile raises RuntimeError for an encrypted member.
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
