"""Shared memory that neither side can pull from under the other, and that a large picture does not keep."""

import os
from pathlib import Path

import pytest

from worker.imaging.sandbox.shared_memory import KEPT_BYTES, create_region, give_back, open_region

SIZE = KEPT_BYTES + 2**20


def test_what_one_writes_the_other_reads() -> None:
    descriptor, region = create_region(SIZE)
    other = open_region(descriptor)
    os.close(descriptor)
    region[:5] = b"there"
    other[-4:] = b"back"
    assert (other[:5], region[-4:], len(other)) == (b"there", b"back", SIZE)


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_other_process_cannot_change_its_size(size: int) -> None:
    descriptor, _region = create_region(SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, size)


def test_pages_of_a_large_picture_are_given_back_and_small_ones_kept() -> None:
    descriptor, region = create_region(SIZE)
    file = Path(f"/proc/self/fd/{descriptor}")
    blocks = []
    for used in (KEPT_BYTES, SIZE):
        region[:used] = bytes([1]) * used
        give_back(region, used)
        blocks.append(file.stat().st_blocks * 512)
    assert blocks == [KEPT_BYTES, KEPT_BYTES]
    assert (region[0], region[-1]) == (1, 0)
