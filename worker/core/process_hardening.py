"""Protect a process from others of its user, and find what the kernel offers to protect it from decoding processes."""

import ctypes
import platform

PR_SET_DUMPABLE, PR_GET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 21, 38
"""From linux/prctl.h."""
LANDLOCK_CREATE_RULESET = 444
_VERSION_FLAG = 1
FILTERED_MACHINES = ("x86_64", "aarch64")
"""Machines whose numbers of system calls are known to the filter of decoding processes."""

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def forbid_inspection() -> None:
    """Deny other processes of this user the memory and environment of this one, which hold passwords.

    Decoding processes run as the same user, and so do debuggers: attach one as root. Without effect outside Linux.
    """
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers, 0 for none."""
    found = libc.syscall(
        ctypes.c_long(LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)
    )
    return max(0, int(found))


def has_seccomp() -> bool:
    """Whether the kernel filters system calls, and this project has a filter for the machine."""
    return platform.machine() in FILTERED_MACHINES and libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def find_missing_protections() -> list[str]:
    """Return the protections of decoding processes that this kernel or container does not offer, as sentences."""
    missing = []
    if landlock_version() == 0:
        missing.append("no Landlock: decoding processes can read files of their user")
    if not has_seccomp():
        missing.append("no seccomp filter: decoding processes can make every system call")
    return missing
