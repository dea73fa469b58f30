"""Take from a decoding process all that computing does not need, before it reads hostile bytes.

A codec that runs the attacker's code then holds pipes and memory shared with the worker, and nothing else: no files but
the program's own, no sockets, no other process. Where the kernel lacks a part of it, the others remain; the worker logs
what is missing.
"""

import ctypes
import os
import resource
import sys
import sysconfig
from pathlib import Path

import worker
from worker.core.process_hardening import PR_SET_NO_NEW_PRIVS, forbid_inspection, libc
from worker.imaging.sandbox.landlock import allow_only_reading
from worker.imaging.sandbox.seccomp import deny_other_system_calls

MAX_OPEN_FILES = 64
MAX_FILE_BYTES = 2**20
"""Enough for the captured warnings of a codec."""
SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo")
_CAPABILITY_VERSION_3 = 0x20080522


def isolate() -> None:
    """Isolate this process, which must have one thread, for ever. Raises OSError if the kernel refuses a part."""
    threads = len([*Path("/proc/self/task").iterdir()])
    if threads != 1:
        sys.exit(f"a decoding process cannot be isolated with {threads} threads")
    forbid_inspection()
    for limit, value in (
        (resource.RLIMIT_CORE, 0),  # a core dump would contain a patient's photograph
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
    ):
        resource.setrlimit(limit, (value, value))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    allow_only_reading(_program_folders())
    drop_capabilities()
    deny_other_system_calls()


def _program_folders() -> set[Path]:
    """Folders of the interpreter, its libraries and this project; modules may be imported later."""
    paths = sysconfig.get_paths()
    ours = {Path(folder) for folder in worker.__path__}
    base = {Path(sys.base_prefix, "lib"), Path(sys.prefix, "lib")}
    return {*ours, *base, *(Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))} | {
        Path(folder) for folder in SYSTEM_FOLDERS
    }


def drop_capabilities() -> None:
    """Give up the rights of root: without them, root cannot read the memory of another process. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")
