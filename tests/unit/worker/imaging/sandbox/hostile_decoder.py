"""A decoder program whose codec runs an attacker's code: it tries to reach everything outside, and reports what it did.

The image is a JSON object: `secret`, a file to read; `folder`, to write into; `port`, of a TCP server.
"""

import ctypes
import fcntl
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy.random

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.header import ImageLimits
from worker.imaging.photograph import PreparedImage
from worker.imaging.sandbox.decoder_program import DecoderConfig, serve
from worker.imaging.steps.prepare import prepare_image

CONFIG = DecoderConfig.model_validate_json(sys.argv[1])
PTRACE, PROCESS_VM_READV, KEYCTL, IO_URING_SETUP = 101, 310, 250, 425
SEIZE = 0x4206
"""Traces a process without stopping it."""
KNOWN_DESCRIPTORS = {0, 1, 2, int(sys.argv[2])}
libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> None:
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "system call")


def read_memory() -> None:
    with Path(f"/proc/{CONFIG.parent_pid}/maps").open() as maps:
        start = int(maps.readline().partition("-")[0], 16)
    with Path(f"/proc/{CONFIG.parent_pid}/mem").open("rb") as memory:
        memory.seek(start)
        memory.read(16)


def read_memory_by_system_call() -> None:
    buffer = ctypes.create_string_buffer(16)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
    call(PROCESS_VM_READV, CONFIG.parent_pid, vector, 1, vector, 1, 0)


def connect(family: int, kind: int, address: object) -> None:
    with socket.socket(family, kind) as connection:
        connection.connect(address)


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def become_a_program() -> None:
    try:
        os.execv("/no-such-program", ["x"])
    except FileNotFoundError:
        return  # it would have become one that exists


def write_a_large_file(descriptor: int) -> None:
    os.pwrite(descriptor, b"x", 2**21)


def attacks(secret: str, folder: str, port: int) -> dict[str, Callable[[], object]]:
    """The attacks by name; each raises an exception if it is denied."""
    new = Path(folder) / "new"
    return {
        "read the worker's environment": Path(f"/proc/{CONFIG.parent_pid}/environ").read_bytes,
        "read the worker's memory": read_memory,
        "read the worker's memory by a system call": read_memory_by_system_call,
        "trace the worker": lambda: call(PTRACE, SEIZE, CONFIG.parent_pid, 0, 0),
        "signal the worker": lambda: os.kill(CONFIG.parent_pid, 0),
        "let the kernel signal the worker": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, CONFIG.parent_pid),
        "read a file": Path(secret).read_bytes,
        "write a file": lambda: new.write_text("x"),
        "append to a file": lambda: os.close(os.open(secret, os.O_WRONLY | os.O_APPEND)),
        "delete a file": Path(secret).unlink,
        "rename a file": lambda: Path(secret).rename(new),
        "make a folder": new.mkdir,
        "link a file": lambda: new.symlink_to(secret),
        "change the mode of a file": lambda: Path(secret).chmod(0o777),
        "connect by TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
        "send by UDP": lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port)),
        "open a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "start a process": fork,
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "become a program": become_a_program,
        "become root": lambda: (os.setuid(0), call(PTRACE, SEIZE, CONFIG.parent_pid, 0, 0)),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)),
        "use io_uring": lambda: call(IO_URING_SETUP, 8, ctypes.create_string_buffer(256)),
        "write a large file": lambda: write_a_large_file(os.memfd_create("x")),
    }


def attempt(attack: Callable[[], object]) -> str:
    try:
        attack()
    except OSError as error:
        return os.strerror(error.errno or 0)
    except ValueError as error:  # `setrlimit` says EPERM so
        return str(error)
    return "done"


def open_descriptors() -> int:
    """Number of open descriptors except the standard ones, the shared memory, and a copy of it and of the output."""
    found = 0
    for descriptor in set(range(1024)) - KNOWN_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found += 1
    return found - 2


def prepare(data: bytes) -> PreparedImage:
    if data.startswith(b"{"):
        inherited = ["inherited descriptors"] if open_descriptors() else []
        found = {name: attempt(attack) for name, attack in attacks(**json.loads(data)).items()}
        raise ImageDecodeError(json.dumps([*inherited, *(name for name, result in found.items() if result == "done")]))
    return prepare_image(data, recipe=CONFIG.recipe, overlay_size_px=CONFIG.overlay_size_px, limits=ImageLimits())


numpy.random.default_rng(0)  # imported now: another user cannot read the interpreter of root
serve(CONFIG, prepare)
