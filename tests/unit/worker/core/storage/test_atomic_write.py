"""Files are written atomically, and a killed writer leaves no file behind."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.core.storage.atomic_write import write_atomically, write_by_rename

WRITERS = [write_atomically, write_by_rename]
Writer = Callable[[Path, bytes], None]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("write", WRITERS)
def test_file_has_its_content_and_is_world_readable(write: Writer, tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"bytes")
    assert (tmp_path / "a.png").read_bytes() == b"bytes"
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644
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
