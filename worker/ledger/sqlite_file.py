"""The file of a ledger in SQLite: only a migration creates it, and other users of the machine cannot read it."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Engine

from worker.core.errors import DatabaseError

MODE = 0o600
OTHERS = 0o007
COMPANIONS = ("", "-wal", "-shm")
"""Suffixes of a ledger's files. SQLite gives the later ones the mode of the first."""


def open_existing(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
    """Make SQLite open a file only if it exists; an event handler of SQLAlchemy for `do_connect`."""
    name = arguments[0] if options.get("uri") else Path(arguments[0]).as_uri()
    if "mode=" not in urlsplit(name).query:
        name += f"{'&' if '?' in name else '?'}mode=rw"
    arguments[0], options["uri"] = name, True


def find_file(engine: Engine) -> Path | None:
    """Return the absolute path of the ledger's file; None for another database and for a URI."""
    if engine.dialect.name != "sqlite" or engine.url.query.get("uri"):
        return None
    return Path(engine.url.database or "").absolute()


def find_missing_file(engine: Engine) -> Path | None:
    """Return the path of the ledger's file if its folder exists and the file does not."""
    file = find_file(engine)
    return file if file and file.parent.is_dir() and not os.path.lexists(file) else None


def create_file(engine: Engine) -> None:
    """Create the ledger's file for its owner alone; withdraw all rights of other users from an existing one.

    A ledger in another database is not touched. Raises DatabaseError when the file cannot be created.
    """
    file = find_file(engine)
    if file is None:
        return
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_CREAT, MODE))
    except OSError as error:
        raise DatabaseError(f"cannot create {file}: {error.strerror}") from error
    for suffix in COMPANIONS:
        part = Path(f"{file}{suffix}")
        try:
            part.chmod(part.stat().st_mode & ~OTHERS)
        except (FileNotFoundError, PermissionError):
            continue  # it does not exist, or belongs to another user


def find_public_mode(engine: Engine) -> int | None:
    """Return the mode of the ledger's file if every user of the machine can read or write it."""
    file = find_file(engine)
    if file is None or not file.exists():
        return None
    mode = file.stat().st_mode & 0o777
    return mode if mode & OTHERS else None
