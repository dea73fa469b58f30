"""Landlock: restrict this process to reading its own program. See https://docs.kernel.org/userspace-api/landlock.html."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from worker.core.process_hardening import LANDLOCK_CREATE_RULESET, landlock_version, libc

_ADD_RULE, _RESTRICT_SELF = 445, 446
"""The numbers of these system calls are the same on all machines."""
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_LATEST_FILE_RIGHTS = 16
"""Number of rights on files by version; the bits of the rights are consecutive."""
_TCP_RIGHTS = 0b11
_SCOPES = 0b11
"""Bind and connect; abstract Unix sockets and signals."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def allow_only_reading(folders: Iterable[Path]) -> bool:
    """Deny this thread all files except reading below `folders`, TCP, and signals to processes outside; for ever.

    Needs `no_new_privs`. Return false if the kernel has no Landlock; version 1 denies files only, version 4 TCP, and
    version 6 signals, too. Raises OSError.
    """
    version = landlock_version()
    if version == 0:
        return False
    rights = (1 << _FILE_RIGHTS.get(version, _LATEST_FILE_RIGHTS)) - 1
    wanted = _Ruleset(rights, _TCP_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    ruleset = _call(LANDLOCK_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)))
    try:
        for folder in folders:
            if folder.is_dir():
                _allow(ruleset, folder)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, folder: Path) -> None:
    parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(_READ_FILE | _READ_DIR, parent)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule))
    finally:
        os.close(parent)


def _call(number: int, *arguments: object) -> int:
    result = int(libc.syscall(ctypes.c_long(number), *arguments, ctypes.c_uint32(0)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"system call {number}: {os.strerror(error)}")
    return result
