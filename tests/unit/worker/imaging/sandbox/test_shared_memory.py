"""Shared memory has a sealed size, and its pages are released after a large image."""

import os
from pathlib import Path

import pytest

from worker.imaging.sandbox.shared_memory import (
    RETAINED_BYTES,
    create_shared_memory,
    open_shared_memory,
    trim_shared_memory,
)

SIZE = RETAINED_BYTES + 2**20


def test_both_processes_see_the_same_bytes() -> None:
    descriptor, shared = create_shared_memory(SIZE)
    other = open_shared_memory(descriptor)
    os.close(descriptor)
    shared[:5] = b"there"
    other[-4:] = b"back"
    assert (other[:5], shared[-4:], len(other)) == (b"there", b"back", SIZE)


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_other_process_cannot_change_its_size(size: int) -> None:
    descriptor, _shared = create_shared_memory(SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, size)


def test_only_pages_beyond_the_retained_size_are_released() -> None:
    descriptor, shared = create_shared_memory(SIZE)
    file = Path(f"/proc/self/fd/{descriptor}")
    blocks = []
    for used in (RETAINED_BYTES, SIZE):
        shared[:used] = bytes([1]) * used
        trim_shared_memory(shared, used)
        blocks.append(file.stat().st_blocks * 512)
    assert blocks == [RETAINED_BYTES, RETAINED_BYTES]
    assert (shared[0], shared[-1]) == (1, 0)
