from pathlib import Path

import numpy as np
import pytest

from worker.core.storage.npy_stack import open_stack


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def header(shape: str, descr: str = "|u1") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


def test_stack_is_memory_mapped(tmp_path: Path) -> None:
    stack = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.save(tmp_path / "x.npy", stack)
    mapped = open_stack(tmp_path / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, stack)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EOF"),
        (b"PK\x03\x04", "magic string"),
        (npy(header("(1, 4, 4, 3)", "|O")), "object"),
        (npy(header("(1, 4, 4, 3)"), bytes(47)), "mmap length is greater than file size"),
        (npy(header("(1, 9223372036854775808, 4, 3)")), "invalid header: Python int too large"),
        (npy(header("(1, -1, 4, 3)")), "negative dimensions are not allowed"),
        (npy(header("(3336, -1, 2, 3)")), "invalid header: memory mapped length must be positive"),
        (npy(header("(1, 4294967296, 4294967296, 3)"), bytes(64)), "array is too big"),
        (npy("{'descr': '|u1', 'shape': (1,"), "invalid header: .*EOF in multi-line statement"),
        (npy(header("(1, 4, 4, 3)", ", ")), "invalid header: invalid syntax"),
        (npy(header("(1, 0, 4, 3)", "<f4"), b"x"), r"array is float32 \(1, 0, 4, 3\)"),
        (npy(header("(1, 2, 2, 3)", "<f8"), bytes(96)), "array is float64"),
    ],
)
def test_any_other_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        open_stack(tmp_path / "x.npy")
