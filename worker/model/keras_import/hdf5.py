"""Read arrays from an HDF5 file that nobody vouches for: plain datasets behind hard links, and nothing else."""

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
    """An HDF5 file held in memory; what the library says of damaged content becomes a ModelError naming `source`."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    # The library has no error class of its own; which of these it raises depends on the byte that is damaged.
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: damaged HDF5: {error}") from error


def list_datasets(root: h5py.Group, *, source: str) -> dict[str, h5py.Dataset]:
    """Every dataset below a group by its path, none of them read.

    Raises ModelError for a link that is not hard, a named type, or more objects or levels than any network has.
    """
    found: dict[str, h5py.Dataset] = {}
    waiting = [("", root, 0)]
    objects = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        for name in group:
            path = f"{prefix}{name}"
            objects += 1
            if objects > _MAX_OBJECTS or depth >= _MAX_DEPTH:
                raise ModelError(f"{source}: more than {_MAX_OBJECTS} objects or {_MAX_DEPTH} levels, at {path}")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelError(f"{source}: {path} is a link to another place, which is not followed")
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((f"{path}/", child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                found[path] = child
            else:
                raise ModelError(f"{source}: {path} is neither a group nor a dataset")
    return found


def read_floats(dataset: h5py.Dataset, shape: tuple[int, ...], *, source: str) -> NDArray[np.float32]:
    """One dataset as float32, read only once its shape, type and storage are known to be plain.

    Raises ModelError for another shape, a type that is not floating, or values kept outside the file or behind a filter
    that is not HDF5's own.
    """
    where = f"{source}: {dataset.name}"
    if dataset.shape != shape:
        raise ModelError(f"{where} has the shape {dataset.shape}, {shape} is needed")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise ModelError(f"{where} is {dataset.dtype}, a floating type is needed")
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{where} keeps its values in another file, which is not read")
    if dataset.chunks is not None and prod(dataset.chunks) > _MAX_CHUNK_VALUES:
        raise ModelError(f"{where} has chunks of {prod(dataset.chunks)} values, {_MAX_CHUNK_VALUES} are allowed")
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code = properties.get_filter(index)[0]
        if code not in _FILTERS:
            raise ModelError(f"{where} is packed by filter {code}, which is not HDF5's own")
    with np.errstate(over="ignore"):
        return np.asarray(dataset[()]).astype(np.float32)
