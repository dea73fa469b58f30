import os
from pathlib import Path

import numpy as np
import pytest

from producer.sources.stack import list_stack_entries
from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference


def save(folder: Path, array: object, name: str = "x.npy", **options: bool) -> Path:
    path = folder / name
    with path.open("wb") as file:
        np.save(file, array, **options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_entry_has_its_number_and_grade(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path, np.ones((3, 8, 8, 3), dtype))
    labels = tmp_path / "y.csv"
    labels.write_text("id_code,diagnosis\na,2\nb,0\nc,4\n")

    assert list(list_stack_entries(path, labels)) == [
        ImageReference(f"{path.as_uri()}#0", reference_grade=2),
        ImageReference(f"{path.as_uri()}#1", reference_grade=0),
        ImageReference(f"{path.as_uri()}#2", reference_grade=4),
    ]


def test_stack_larger_than_memory_is_only_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    shape = (1_000_000, 512, 512, 3)  # 786 GB, sparse
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.seek(int(np.prod(shape)) - 1, os.SEEK_CUR)
        file.write(b"\0")

    assert next(list_stack_entries(path, None)).uri == f"{path.as_uri()}#0"


def test_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    labels = tmp_path / "y.csv"
    labels.write_text("diagnosis\n0\n1\n")

    with pytest.raises(SourceError, match=r"y.csv has 2 labels, .*x.npy has 3 images"):
        list_stack_entries(save(tmp_path, np.ones((3, 8, 8, 3), np.uint8)), labels)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"array is uint8 \(8, 8, 3\), must be"),
        (np.zeros((2, 8, 8, 1), np.uint8), r"array is uint8 \(2, 8, 8, 1\), must be"),
        (np.zeros((2, 8, 8, 3), np.float64), "array is float64"),
        (np.zeros((2, 8, 8, 3), ">f4"), "array is >f4"),
        (np.zeros((2, 0, 8, 3), np.float32), r"array is float32 \(2, 0, 8, 3\)"),
        (np.full((3, 8, 8, 3), 255, np.float32), r"entry 0: values from 255 to 255 are outside \[0, 1\]"),
        (np.full((3, 8, 8, 3), np.nan, np.float32), r"entry 0: values from nan to nan are outside \[0, 1\]"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, array: np.ndarray, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        list_stack_entries(save(tmp_path, array), None)


def test_last_entry_is_in_the_sample(tmp_path: Path) -> None:
    array = np.zeros((100, 4, 4, 3), np.float32)
    array[99, 0, 0, 0] = -0.5

    with pytest.raises(SourceError, match=r"entry 99: values from -0.5 to 0"):
        list_stack_entries(save(tmp_path, array), None)


def test_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = save(tmp_path, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(SourceError, match=r"cannot read .*x.npy as a stack of images"):
        list_stack_entries(path, None)


def test_truncated_stack_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, np.zeros((4, 8, 8, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(SourceError, match=r"cannot read .*x.npy"):
        list_stack_entries(path, None)


def test_archive_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))

    with pytest.raises(SourceError, match="magic string is not correct"):
        list_stack_entries(tmp_path / "x.npy", None)


def test_empty_stack_has_no_references(tmp_path: Path) -> None:
    assert list(list_stack_entries(save(tmp_path, np.zeros((0, 8, 8, 3), np.float32)), None)) == []
