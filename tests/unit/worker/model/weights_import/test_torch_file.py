"""Files of PyTorch are read without PyTorch; whatever is not a tensor is rejected and never run."""

import io
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.weights_import.torch_file import STREAM_MAGIC, is_torch_file, read_tensors


class Storage(NamedTuple):
    """Pickled as PyTorch pickles a storage: by a persistent id."""

    type: str
    key: str
    numbers: NDArray[Any]


class Global:
    """Pickled as the name of a class or function in a module."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


class Tensor:
    """Pickled as a call of the function by which PyTorch rebuilds a tensor, or of another one."""

    def __init__(
        self,
        storage: Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        function: Global = REBUILD,
    ) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())
        self.function = function


class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """The pickler in Python, which can write the name of a module that is not installed."""

    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, Storage):
            return ("storage", Global("torch", obj.type), obj.key, "cpu", len(obj.numbers), None)
        return None

    def save(self, obj: object, save_persistent_id: bool = True) -> None:  # noqa: FBT001, FBT002 - as in pickle
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def dump(content: object) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def stream(content: object, *storages: Storage, magic: int = STREAM_MAGIC, little_endian: bool = True) -> bytes:
    parts = [dump(magic), dump(1001), dump({"little_endian": little_endian}), dump(content)]
    parts.append(dump([storage.key for storage in storages]))
    for storage in storages:
        parts += [struct.pack("<q", len(storage.numbers)), storage.numbers.tobytes()]
    return b"".join(parts)


def archive(content: object, *storages: Storage) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model/data.pkl", dump(content))
        for storage in storages:
            file.writestr(f"model/data/{storage.key}", storage.numbers.tobytes())
    return buffer.getvalue()


FLOATS = Storage("FloatStorage", "17", np.arange(24, dtype="<f4"))
COUNTS = Storage("LongStorage", "18", np.array([5], "<i8"))
TENSORS = OrderedDict(
    plain=Tensor(FLOATS, 0, (2, 3), (3, 1)),
    transposed=Tensor(FLOATS, 4, (3, 2), (1, 3)),
    scalar=Tensor(COUNTS, 0, (), ()),
)


@pytest.mark.parametrize("pack", [stream, archive])
def test_tensors_are_read_with_offset_and_strides(pack: Callable[..., bytes]) -> None:
    data = pack(TENSORS, FLOATS, COUNTS)
    assert is_torch_file(data)
    read = read_tensors(data, source="f")
    assert list(read) == ["plain", "transposed", "scalar"]
    assert read["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["transposed"].tolist() == [[4, 7], [5, 8], [6, 9]]
    assert read["scalar"].shape == ()
    assert read["scalar"] == 5


@pytest.mark.parametrize("pack", [stream, archive])
@pytest.mark.parametrize("name", [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.hub", "load")])
def test_other_functions_are_rejected(pack: Callable[..., bytes], name: tuple[str, str]) -> None:
    data = pack({"a": Tensor(FLOATS, 0, (1,), (1,), Global(*name))}, FLOATS)
    with pytest.raises(ModelError, match=re.escape(f"f: damaged PyTorch file: it contains {'.'.join(name)}, which is")):
        read_tensors(data, source="f")


@pytest.mark.parametrize("pack", [stream, archive])
@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor(FLOATS, 20, (2, 3), (3, 1)), "exceeds its storage of 24 numbers"),
        (Tensor(FLOATS, 0, (2**30, 2**9), (0, 0)), "exceeds its storage of 24 numbers"),
        (Tensor(FLOATS, -1, (1,), (1,)), "malformed tensor"),
        (Tensor(FLOATS, 0, (2, 2), (1,)), "malformed tensor"),
        (Tensor(Storage("BoolStorage", "1", FLOATS.numbers), 0, (1,), (1,)), "torch.BoolStorage"),
        (7, "'a' is not a tensor"),
    ],
)
def test_malformed_tensors_are_rejected(pack: Callable[..., bytes], tensor: object, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_tensors(pack({"a": tensor}, FLOATS), source="f")


@pytest.mark.parametrize("content", [{}, [1], 3, {5: Tensor(FLOATS, 0, (1,), (1,))}])
def test_content_other_than_a_state_dictionary_is_rejected(content: object) -> None:
    with pytest.raises(ModelError, match=r"not a state dictionary|is not a tensor"):
        read_tensors(stream(content, FLOATS), source="f")


def test_big_endian_file_is_rejected() -> None:
    with pytest.raises(ModelError, match="big-endian"):
        read_tensors(stream(TENSORS, FLOATS, COUNTS, little_endian=False), source="f")


@pytest.mark.parametrize("pack", [stream, archive])
def test_every_truncation_is_an_error(pack: Callable[..., bytes]) -> None:
    data = pack(TENSORS, FLOATS, COUNTS)
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(ModelError):
            read_tensors(data[:end], source="f")


def test_other_files_are_not_of_pytorch() -> None:
    assert not is_torch_file(b"\x89HDF\r\n\x1a\n")
    assert not is_torch_file(stream(TENSORS, magic=STREAM_MAGIC + 1))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model.weights.h5", b"")
    assert not is_torch_file(buffer.getvalue())
    assert not is_torch_file(b"PK\x03\x04")
