"""The folder of compiled networks. Its files are machine code, so no other user may write there."""

import os
import stat
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def open_compile_cache(folder: Path | None) -> Path | None:
    """Create the folder, by default that of this user's cache, and return it.

    Returns None, with a warning, if it cannot be created or others may write to it.
    """
    path = folder or _user_cache() / "fundus" / "compiled"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        log.warning("no_compile_cache", folder=str(path), detail=error.strerror or str(error))
        return None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        detail = "other users may write to it; fix: FUNDUS_COMPILE_CACHE, a folder of this user alone"
        log.warning("no_compile_cache", folder=str(path), detail=detail)
        return None
    return path


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
