"""Read arrays from an untrusted HDF5 file: only plain datasets behind hard links."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import h5py
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError

_MAX_OBJECTS = 20_000
_MAX_DEPTH = 16
_MAX_CHUNK_VALUES = 16 * 1024 * 1024
_FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})


@contextmanager
def open_hdf5(data: bytes, *, source: str) -> Iterator[h5py.File]:
    """Open an HDF5 file in memory. Raises ModelError, naming `source`, for damaged content."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    # h5py has no error class; which of these it raises depends on the damaged byte.
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: damaged HDF5: {error}") from error


def list_datasets(root: h5py.Group, *, source: str) -> dict[str, h5py.Dataset]:
    """Return all datasets in a group and its subgroups by path, without reading them.

    Raises ModelError for a link that is not hard, a named type, and for more objects or levels than a network has.
    """
    found: dict[str, h5py.Dataset] = {}
    pending = [("", root, 0)]
    objects = 0
    while pending:
        prefix, group, depth = pending.pop()
        for name in group:
            path = f"{prefix}{name}"
            objects += 1
            if objects > _MAX_OBJECTS or depth >= _MAX_DEPTH:
                raise ModelError(f"{source}: more than {_MAX_OBJECTS} objects or {_MAX_DEPTH} levels, at {path}")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelError(f"{source}: {path} is a soft or external link, which is not followed")
            child = group[name]
            if isinstance(child, h5py.Group):
                pending.append((f"{path}/", child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                found[path] = child
            else:
                raise ModelError(f"{source}: {path} is neither a group nor a dataset")
    return found


def read_floats(dataset: h5py.Dataset, shape: tuple[int, ...], *, source: str) -> NDArray[np.float32]:
    """Read a dataset as float32, after its shape, type and storage have been checked.

    Raises ModelError for another shape, a type that is not floating, values that are stored outside the file, and for a
    filter that is not part of HDF5.
    """
    where = f"{source}: {dataset.name}"
    if dataset.shape != shape:
        raise ModelError(f"{where} has the shape {dataset.shape}, {shape} is needed")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ModelError(f"{where} is {dataset.dtype}, a floating type is needed")
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{where} stores its values in another file, which is not read")
    if dataset.chunks is not None and prod(dataset.chunks) > _MAX_CHUNK_VALUES:
        raise ModelError(f"{where} has chunks of {prod(dataset.chunks)} values, {_MAX_CHUNK_VALUES} are allowed")
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code = properties.get_filter(index)[0]
        if code not in _FILTERS:
            raise ModelError(f"{where} is compressed by filter {code}, which is not part of HDF5")
    with np.errstate(over="ignore"):
        return np.asarray(dataset[()]).astype(np.float32)
