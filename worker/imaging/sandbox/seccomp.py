"""seccomp: allow this process the system calls of computing, and deny all others.

A filter of libseccomp would need that library on every machine; its Python bindings are not maintained.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Sequence

from worker.core.process_hardening import has_seccomp, libc

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*, from linux/audit.h."""

_ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
        "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
        "pread64": 17, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
        "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63,
        "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
        "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
        "gettid": 186, "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219,
        "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "mbind": 237,
        "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "dup3": 292,
        "getcpu": 309, "getrandom": 318, "memfd_create": 319, "membarrier": 324, "statx": 332, "faccessat2": 439,
    },
    "aarch64": {
        "getcwd": 17, "dup": 23, "dup3": 24, "faccessat": 48, "close": 57, "getdents64": 61, "lseek": 62,
        "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73,
        "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "nanosleep": 101,
        "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123,
        "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
        "rt_sigreturn": 139, "uname": 160, "getrlimit": 163, "getrusage": 165, "getcpu": 168, "gettimeofday": 169,
        "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178,
        "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233,
        "mbind": 235, "getrandom": 278, "memfd_create": 279, "membarrier": 283, "statx": 291, "faccessat2": 439,
    },
}  # fmt: skip
_OPENAT = {"x86_64": 257, "aarch64": 56}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_TGKILL = {"x86_64": 234, "aarch64": 131}
_OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
_DUPLICATE_OR_DESCRIBE = (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)
"""Others could make the kernel signal another process when a pipe becomes ready."""
_TCGETS = 0x5401

# Instructions of the classic Berkeley packet filter, from linux/bpf_common.h.
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _DENY = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`."""


Instruction = tuple[int, int, int, int]
"""Code, jumps if true and if false, and operand."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def deny_other_system_calls() -> bool:
    """Deny this thread, for ever, all system calls that computing does not need: they fail with EPERM.

    Files can be opened for reading only; sockets, new processes, other programs, signals to other processes and their
    memory are denied. Needs `no_new_privs`. Return false if the kernel has no seccomp or the machine no filter. Raises
    OSError.
    """
    if not has_seccomp():
        return False
    code = _assemble(platform.machine())
    program = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
    return True


def _assemble(machine: str) -> bytes:
    instructions: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for number in _ALLOWED[machine].values():
        instructions += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    instructions += _on_argument(_OPENAT[machine], 2, _ANY_BIT, [_OPEN_TO_WRITE], allowed=False)
    instructions += _on_argument(_FCNTL[machine], 1, _EQUAL, _DUPLICATE_OR_DESCRIBE, allowed=True)
    instructions += _on_argument(_IOCTL[machine], 1, _EQUAL, [_TCGETS], allowed=True)  # is a file a terminal?
    instructions += _on_argument(_TGKILL[machine], 0, _EQUAL, [os.getpid()], allowed=True)  # abort() signals itself
    instructions.append((_RETURN, 0, 0, _DENY))
    return _encode(instructions)


def _on_argument(number: int, argument: int, test: int, values: Sequence[int], *, allowed: bool) -> list[Instruction]:
    """Allow or deny a system call if its argument passes the test with a value, and the reverse if it passes none."""
    passed, failed = (_ALLOW, _DENY) if allowed else (_DENY, _ALLOW)
    tests = [part for value in values for part in ((test, 0, 1, value), (_RETURN, 0, 0, passed))]
    # Only the low half of the argument is loaded: both machines are little-endian, and the arguments have 32 bits.
    body = [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument), *tests, (_RETURN, 0, 0, failed)]
    return [(_EQUAL, 0, len(body), number), *body]


def _encode(instructions: Sequence[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
