"""Small file systems that can be filled to the last byte and emptied again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BLOCK = b"\0" * 4096


@dataclass(frozen=True)
class Disk:
    folder: Path

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(BLOCK):
                pass

    def empty(self) -> None:
        """Give back what `fill` took."""
        (self.folder / "filler").unlink()

    def is_full(self) -> bool:
        return os.statvfs(self.folder).f_bavail == 0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """`folder`, which must not exist, on a disk of its own; skips the test where no disk can be had."""
    with contextlib.ExitStack() as cleanup:
        if os.geteuid() == 0:
            folder.mkdir()
            _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
            cleanup.callback(_run, "umount", "--lazy", str(folder))
        else:
            folder.symlink_to(cleanup.enter_context(_in_namespace(folder.with_name(f"{folder.name}-disk"), megabytes)))
        yield Disk(folder)


@contextmanager
def _in_namespace(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk that an ordinary user may mount, by a path from outside: it lives as long as a process that waits."""
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$1"m tmpfs "$0" && echo mounted && exec sleep infinity'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder), str(megabytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"mounted\n":
                pytest.skip("no disk can be mounted here, not even in a user namespace")
            yield Path(f"/proc/{holder.pid}/root{folder}")
        finally:
            holder.kill()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
