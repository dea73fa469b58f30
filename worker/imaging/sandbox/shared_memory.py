"""Memory that a worker shares with one decoding process, so that pictures cross no pipe."""

import fcntl
import mmap
import os

RETAINED_BYTES = 16 * 2**20
"""What a larger picture took is given back after it."""


def create_shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """A descriptor for the other process, and the memory, which takes no room before it is written to.

    Its size is sealed: a process that made it smaller would kill the worker at its next read.
    """
    descriptor = os.memfd_create("fundus-pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor, mmap.mmap(descriptor, size)


def open_shared_memory(descriptor: int) -> mmap.mmap:
    """The memory that another process has created."""
    return mmap.mmap(descriptor, 0)


def trim_shared_memory(shared: mmap.mmap, used_bytes: int) -> None:
    """Let go of the pages beyond RETAINED_BYTES, if so many were used."""
    if used_bytes > RETAINED_BYTES:
        shared.madvise(mmap.MADV_REMOVE, RETAINED_BYTES, len(shared) - RETAINED_BYTES)
