"""An attacker who runs code in a decoding process reaches nothing outside it."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.core.process_hardening import has_seccomp, landlock_version

RUNNER = Path(__file__).with_name("attack_runner.py")
NOBODY = "65534"
AS_NOBODY = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups",
             # Nobody may have to read an interpreter in root's home. Decoding processes give this up.
             "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # fmt: skip
NO_LANDLOCK = "no Landlock: decoding processes can read files of their user"
NO_SECCOMP = "no seccomp filter: decoding processes can make every system call"
ONLY_BY_SECCOMP = {
    "let the kernel signal the worker",  # Landlock denies the signal itself
    "change the mode of a file", "send by UDP", "open a Unix socket", "start a process", "become a program",
    "use io_uring",
}  # fmt: skip
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="attacks use system calls of x86-64 by number")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which every user may do everything."""
    with tempfile.TemporaryDirectory(prefix="fundus-attack-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("another patient")
        (folder / "secret").chmod(0o666)
        yield folder


@pytest.fixture(params=["root", "nobody"])
def user(request: pytest.FixtureRequest) -> list[str]:
    """The command that runs another one as this user."""
    if os.geteuid() != 0:
        if request.param == "root":
            pytest.skip("needs root")
        return []
    if request.param == "root":
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    return AS_NOBODY


def attack(user: list[str], folder: Path, *, without: str = "none") -> dict[str, Any]:
    image = json.dumps({"secret": str(folder / "secret"), "folder": str(folder)})
    done = subprocess.run(
        [*user, sys.executable, str(RUNNER), without, image],
        env={**os.environ, "FUNDUS_PATIENT_KEY": "secret" * 8, "PYTHONPATH": str(RUNNER.parents[5])},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["prepared"]
    assert (folder / "secret").read_text() == "another patient"
    return found | {"log": done.stdout}


@pytest.mark.skipif(not (landlock_version() and has_seccomp()), reason="the kernel lacks Landlock or seccomp")
def test_hostile_decoder_reaches_nothing(user: list[str], folder: Path) -> None:
    found = attack(user, folder)
    assert found["succeeded"] == []
    assert found["doctor"] == ["ok: isolated by Landlock and seccomp"]
    assert "decoders_not_isolated" not in found["log"]


@pytest.mark.skipif(not has_seccomp(), reason="the kernel lacks seccomp")
def test_hostile_decoder_only_reads_files_without_landlock(user: list[str], folder: Path) -> None:
    found = attack(user, folder, without="landlock")
    assert found["succeeded"] == ["read a file"]
    assert found["doctor"] == [f"warning: {NO_LANDLOCK}"]
    assert f"decoders_not_isolated          missing=['{NO_LANDLOCK}']" in found["log"]


@pytest.mark.skipif(landlock_version() < 6, reason="the kernel lacks Landlock 6")
def test_hostile_decoder_reaches_no_secret_without_seccomp(user: list[str], folder: Path) -> None:
    found = attack(user, folder, without="seccomp")
    assert set(found["succeeded"]) <= ONLY_BY_SECCOMP
    assert found["doctor"] == [f"warning: {NO_SECCOMP}"]
    assert f"decoders_not_isolated          missing=['{NO_SECCOMP}']" in found["log"]
