"""Files are written atomically, and a killed writer leaves no file behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.core.storage.atomic_write import copy_atomically, write_atomically, write_by_rename

WRITERS = [write_atomically, write_by_rename]
Writer = Callable[[Path, bytes], None]


def copy(target: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as source:
        Path(source.name).write_bytes(data)
        copy_atomically(target, Path(source.name))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("write", [*WRITERS, copy])
@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o640), (0o022, 0o640), (0o077, 0o600)])
def test_file_is_readable_by_owner_and_group_at_most(write: Writer, umask: int, mode: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(mode=0o666)
    before = os.umask(umask)
    try:
        write(tmp_path / "a.png", b"bytes")
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").read_bytes() == b"bytes"
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == mode
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("write", WRITERS)
def test_file_is_replaced_without_leftovers(write: Writer, tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"long and old")
    write(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("write", WRITERS)
def test_folder_as_target_is_refused_without_leftovers(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        write(tmp_path / "a.png", b"bytes")
    assert names(tmp_path) == ["a.png"]


def test_killed_writer_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from worker.core.storage import atomic_write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write.write_atomically(Path(sys.argv[1]), b'bytes')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == []
