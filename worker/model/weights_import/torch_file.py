"""Read the tensors of a file that PyTorch saved, without PyTorch and without running pickled code.

Such a file describes its tensors in a pickle. Here an unpickler builds the description from a fixed set of inert
functions and rejects every other name. Supported are `torch.save` of a state dictionary, as a zip archive (PyTorch 1.6
and later) and in the older stream format.
"""

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from worker.core.errors import ModelError

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the stream format."""
MAX_TENSORS = 10_000
MAX_PICKLE_BYTES = 8 * 1024 * 1024
MAX_DIMENSIONS = 8
_ZIP_START = b"PK\x03\x04"
_TYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "FloatStorage": np.dtype("<f4"),
        "HalfStorage": np.dtype("<f2"),
        "DoubleStorage": np.dtype("<f8"),
        "LongStorage": np.dtype("<i8"),
        "IntStorage": np.dtype("<i4"),
    }
)
_Reader = Callable[[str, int], bytes]
"""Function that returns the bytes of a storage, given its key and its number of bytes."""


def is_torch_file(data: bytes) -> bool:
    """Return whether the content starts like a file of PyTorch."""
    if data.startswith(_ZIP_START):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return _find_pickle(archive) is not None
        except zipfile.BadZipFile:
            return False
    return data.startswith(pickle.dumps(STREAM_MAGIC, protocol=2)[:-1])


def read_tensors(data: bytes, *, source: str) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a state dictionary by name, as contiguous arrays.

    source: names the file in errors. Raises ModelError for damaged content, for any object that is not a tensor, and
    for tensors beyond their storage.
    """
    try:
        tensors, read_storage = _read_archive(data) if data.startswith(_ZIP_START) else _read_stream(data)
        return {name: _assemble(tensor, read_storage) for name, tensor in tensors.items()}
    except ModelError as error:
        raise ModelError(f"{source}: {error.detail}") from error
    # The unpickler raises almost any of these for damaged bytes.
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
    ) as error:
        raise ModelError(f"{source}: damaged PyTorch file: {error}") from error


@dataclass(frozen=True, slots=True)
class _Storage:
    """The numbers that one or more tensors show: their type, key in the file, and number."""

    type: str
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides are in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries, tuples, numbers, texts and the descriptions of tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the inert stand-in for a name of PyTorch. Raises UnpicklingError for other names."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe_tensor
        if module == "torch" and name in _TYPES:
            return name
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a persistent id describes."""
        kind, type_name, key, _device, length, *_ = pid
        if kind != "storage" or type_name not in _TYPES or not isinstance(key, str) or not _is_count(length):
            raise pickle.UnpicklingError("it contains a persistent id that is not a storage")
        return _Storage(type_name, key, length)


def _describe_tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise pickle.UnpicklingError("it contains a malformed tensor")
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, (offset, *shape, *strides))):
        raise pickle.UnpicklingError("it contains a malformed tensor")
    return _Tensor(storage, offset, shape, strides)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _read_archive(data: bytes) -> tuple[dict[str, _Tensor], _Reader]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    name = _find_pickle(archive)
    if name is None:
        raise ModelError("not a PyTorch file: the archive has no data.pkl")
    folder = name.removesuffix("data.pkl")
    if archive.getinfo(name).file_size > MAX_PICKLE_BYTES:
        raise ModelError(f"its data.pkl has more than {MAX_PICKLE_BYTES} bytes")
    tensors = _check_tensors(_Unpickler(io.BytesIO(archive.read(name))).load())

    def read_storage(key: str, size: int) -> bytes:
        member = archive.getinfo(f"{folder}data/{key}")
        if member.file_size != size:
            raise ModelError(f"storage {key} has {member.file_size} bytes, {size} are needed")
        return archive.read(member)

    return tensors, read_storage


def _find_pickle(archive: zipfile.ZipFile) -> str | None:
    return next((name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")), None)


def _read_stream(data: bytes) -> tuple[dict[str, _Tensor], _Reader]:
    """Read the stream format: five pickles (magic, version, platform, tensors, keys), then each storage."""
    file = io.BytesIO(data)
    if _Unpickler(file).load() != STREAM_MAGIC:
        raise ModelError("not a PyTorch file")
    _version, platform = _Unpickler(file).load(), _Unpickler(file).load()
    if platform.get("little_endian") is not True:
        raise ModelError("its numbers are big-endian; only little-endian files are supported")
    tensors = _check_tensors(_Unpickler(file).load())
    keys = _Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    starts: dict[str, tuple[int, int]] = {}
    position = file.tell()
    for key in keys:
        length = int.from_bytes(data[position : position + 8], "little")
        size = length * _TYPES[storages[key].type].itemsize
        starts[key] = position + 8, size
        position += 8 + size

    def read_storage(key: str, size: int) -> bytes:
        start, found = starts[key]
        if found != size or start + size > len(data):
            raise ModelError(f"storage {key} is truncated: {size} bytes are needed")
        return data[start : start + size]

    return tensors, read_storage


def _check_tensors(loaded: object) -> dict[str, _Tensor]:
    if not isinstance(loaded, Mapping) or not 0 < len(loaded) <= MAX_TENSORS:
        raise ModelError(f"not a state dictionary of 1 to {MAX_TENSORS} tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ModelError(f"{str(name)[:80]!r} is not a tensor")
    return dict(loaded)


def _assemble(tensor: _Tensor, read_storage: _Reader) -> NDArray[np.generic]:
    dtype = _TYPES[tensor.storage.type]
    numbers = np.frombuffer(read_storage(tensor.storage.key, tensor.storage.length * dtype.itemsize), dtype)
    if math.prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, dtype)
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    # A stride of zero repeats numbers, so a small file could describe a huge tensor.
    if last >= len(numbers) or math.prod(tensor.shape) > len(numbers):
        raise ModelError(f"a tensor of shape {tensor.shape} exceeds its storage of {len(numbers)} numbers")
    view = as_strided(
        numbers[tensor.offset :], tensor.shape, [stride * dtype.itemsize for stride in tensor.strides], writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
