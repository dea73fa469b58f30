import os
from pathlib import Path

import numpy as np
import pytest

from worker.core.storage.npy_stack import open_stack


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def header(shape: str, descr: str = "|u1") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


def save(path: Path, entries: int = 2) -> np.ndarray:
    stack = np.arange(entries * 4 * 5 * 3, dtype=np.uint8).reshape(entries, 4, 5, 3)
    np.save(path, stack)
    return stack


def test_entries_are_read(tmp_path: Path) -> None:
    saved = save(tmp_path / "x.npy")
    with open_stack(tmp_path / "x.npy") as stack:
        assert (stack.shape, stack.dtype, stack.entry_bytes) == ((2, 4, 5, 3), np.uint8, 60)
        assert all(np.array_equal(stack.read(index), saved[index]) for index in range(2))


def test_file_truncated_while_it_is_open_is_an_error_and_does_not_end_the_process(tmp_path: Path) -> None:
    save(tmp_path / "x.npy")
    with open_stack(tmp_path / "x.npy") as stack:
        os.truncate(tmp_path / "x.npy", 150)
        with pytest.raises(OSError, match="file was modified while it was read"):
            stack.read(1)


def test_file_rewritten_in_place_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "x.npy")
    with open_stack(tmp_path / "x.npy") as stack:
        save(tmp_path / "x.npy", 3)
        with pytest.raises(OSError, match="file was modified while it was read"):
            stack.read(1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EOF"),
        (b"PK\x03\x04", "magic string"),
        (b"\x93NUMPY\x03\x00", r"format version is \(3, 0\)"),
        (npy(header("(1, 4, 4, 3)", "|O")), "object"),
        (npy(header("(1, 4, 4, 3)"), bytes(47)), "file has 121 bytes; its header declares 122"),
        (npy(header("(1, 9223372036854775808, 4, 3)")), "its header declares"),
        (npy(header("(1, -1, 4, 3)")), r"array is uint8 \(1, -1, 4, 3\)"),
        (npy(header("(3336, -1, 2, 3)")), r"array is uint8 \(3336, -1, 2, 3\)"),
        (npy(header("(1, 4294967296, 4294967296, 3)"), bytes(64)), "its header declares"),
        (npy("{'descr': '|u1', 'shape': (1,"), "invalid header: .*EOF in multi-line statement"),
        (npy(header("(1, 4, 4, 3)", ", ")), "invalid header: invalid syntax"),
        (npy(header("(1, 0, 4, 3)", "<f4"), b"x"), r"array is float32 \(1, 0, 4, 3\)"),
        (npy(header("(1, 2, 2, 3)", "<f8"), bytes(96)), "array is float64"),
        (npy(header("(1, 2, 2, 3)").replace("False", "True"), bytes(12)), "array is in Fortran order"),
    ],
)
def test_any_other_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match=why), open_stack(tmp_path / "x.npy"):
        pass
