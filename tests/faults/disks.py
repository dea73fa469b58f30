"""Small file systems that tests can fill completely."""

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
        """Write a file that uses all free space."""
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(BLOCK):
                pass

    def empty(self) -> None:
        """Delete the file written by `fill`."""
        (self.folder / "filler").unlink()

    def is_full(self) -> bool:
        return os.statvfs(self.folder).f_bavail == 0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a tmpfs at `folder`, which must not exist; skip the test if mounting is not permitted."""
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
    """Mount a tmpfs in a user namespace and return its path; it exists while a holder process runs."""
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$1"m tmpfs "$0" && echo mounted && exec sleep infinity'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder), str(megabytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"mounted\n":
                pytest.skip("cannot mount a tmpfs, not even in a user namespace")
            yield Path(f"/proc/{holder.pid}/root{folder}")
        finally:
            holder.kill()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
