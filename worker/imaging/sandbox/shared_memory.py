"""Memory shared by a worker and one decoding process, so that images are not copied through pipes."""

import fcntl
import mmap
import os

RETAINED_BYTES = 16 * 2**20
"""Pages beyond this are released after each image that used them."""


def create_shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """Return a file descriptor for the other process, and the mapped memory. Pages are allocated when written.

    The size is sealed: otherwise the other process could truncate the file, and the worker's next read would kill it.
    """
    descriptor = os.memfd_create("fundus-images", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor, mmap.mmap(descriptor, size)


def open_shared_memory(descriptor: int) -> mmap.mmap:
    """Map the memory that another process has created."""
    return mmap.mmap(descriptor, 0)


def trim_shared_memory(shared: mmap.mmap, used_bytes: int) -> None:
    """Release the pages beyond RETAINED_BYTES if more than that was used."""
    if used_bytes > RETAINED_BYTES:
        shared.madvise(mmap.MADV_REMOVE, RETAINED_BYTES, len(shared) - RETAINED_BYTES)
