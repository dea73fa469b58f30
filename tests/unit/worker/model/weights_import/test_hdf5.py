import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from worker.core.errors import ModelError
from worker.model.weights_import.hdf5 import list_datasets, open_hdf5, read_floats


def make_file(fill: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def read(data: bytes, path: str = "a", shape: tuple[int, ...] = (2,)) -> list[float]:
    with open_hdf5(data, source="f.h5") as file:
        values: list[float] = read_floats(list_datasets(file, source="f.h5")[path], shape, source="f.h5").tolist()
        return values


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_floats_of_any_width_and_order_are_read(dtype: str) -> None:
    data = make_file(lambda file: file.create_dataset("g/a", data=np.array([1.5, -2], dtype)))
    assert read(data, "g/a") == [1.5, -2]


def test_values_compressed_by_hdf5_filters_are_read() -> None:
    data = make_file(
        lambda file: file.create_dataset(
            "a", data=np.array([1.5, -2], "f4"), compression="gzip", shuffle=True, fletcher32=True
        )
    )
    assert read(data) == [1.5, -2]


def link_softly(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/b")


def link_to_another_file(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("/etc/passwd", "/")


def name_a_type(file: h5py.File) -> None:
    file["a"] = np.dtype("f4")


def nest_too_deep(file: h5py.File) -> None:
    file.create_group("a/" * 17)


def link_a_group_to_itself(file: h5py.File) -> None:
    group = file.create_group("a")
    group["again"] = group


def hold_too_many(file: h5py.File) -> None:
    group = file.create_group("a")
    group["b"] = np.zeros(1, "f4")
    for index in range(20_000):
        group[str(index)] = group["b"]


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (link_softly, "f.h5: a is a soft or external link"),
        (link_to_another_file, "f.h5: a is a soft or external link"),
        (name_a_type, "f.h5: a is neither a group nor a dataset"),
        (nest_too_deep, "f.h5: more than 20000 objects or 16 levels"),
        (link_a_group_to_itself, "f.h5: more than 20000 objects or 16 levels"),
        (hold_too_many, "f.h5: more than 20000 objects or 16 levels"),
    ],
)
def test_only_plain_datasets_are_accepted(fill: Callable[[h5py.File], None], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        read(make_file(fill))


def keep_values_in_another_file(file: h5py.File) -> None:
    file.create_dataset("a", (2,), "f4", external=[("/etc/passwd", 0, 8)])


def map_values_from_another_file(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (2,))
    file.create_virtual_dataset("a", layout)


def keep_text(file: h5py.File) -> None:
    file.create_dataset("a", data=["x", "y"])


def keep_references(file: h5py.File) -> None:
    file.create_dataset("a", (2,), h5py.ref_dtype)


def keep_whole_numbers(file: h5py.File) -> None:
    file.create_dataset("a", data=[1, 2])


def keep_another_shape(file: h5py.File) -> None:
    file.create_dataset("a", (1 << 40,), "f4", chunks=(1024,))


def keep_a_huge_chunk(file: h5py.File) -> None:
    file.create_dataset("a", (2,), "f4", maxshape=(None,), chunks=(1 << 26,))


def pack_by_another_filter(file: h5py.File) -> None:
    file.create_dataset("a", (2,), "f4", compression="lzf")


@pytest.mark.parametrize(
    ("fill", "sentence"),
    [
        (keep_values_in_another_file, "f.h5: /a stores its values in another file"),
        (map_values_from_another_file, "f.h5: /a stores its values in another file"),
        (keep_text, "f.h5: /a is object, a floating type is needed"),
        (keep_references, "f.h5: /a is object, a floating type is needed"),
        (keep_whole_numbers, "f.h5: /a is int64, a floating type is needed"),
        (keep_another_shape, r"f.h5: /a has the shape \(1099511627776,\), \(2,\) is needed"),
        (keep_a_huge_chunk, "f.h5: /a has chunks of 67108864 values, 16777216 are allowed"),
        (pack_by_another_filter, "f.h5: /a is compressed by filter 32000"),
    ],
)
def test_dataset_of_other_than_plain_floats_is_not_read(fill: Callable[[h5py.File], None], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        read(make_file(fill))


@pytest.mark.parametrize("keep", [0, 7, 100, 600])
def test_truncated_file_is_damaged(keep: int) -> None:
    data = make_file(lambda file: file.create_dataset("a", data=np.zeros(2, "f4")))
    with pytest.raises(ModelError, match=r"f\.h5: damaged HDF5: "):
        read(data[:keep])


def test_external_link_does_not_open_a_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["a"] = np.array([1.5, -2], "f4")

    def fill(file: h5py.File) -> None:
        file["a"] = h5py.ExternalLink(str(elsewhere), "/a")

    with pytest.raises(ModelError, match="a is a soft or external link, which is not followed"):
        read(make_file(fill))
