"""Real cgroups with limits, for processes that a test starts. Skipped where none can be made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path("/sys/fs/cgroup")

Limits = Mapping[str, str]


@contextmanager
def cgroup(controller: str, *levels: Limits) -> Iterator[Path]:
    """Make nested cgroups of version 1, or of version 2 if the files of `levels` are its own; yield the innermost.

    levels: the content of each file by its name, from the outermost cgroup to the innermost.
    """
    unified = any(name in level for level in levels for name in ("cpu.max", "memory.max"))
    folder = _unified_root(controller) if unified else ROOT / controller
    made: list[Path] = []
    try:
        for level in levels:
            folder = folder / f"fundus-{uuid4().hex[:8]}"
            _make(folder, controller, level, unified=unified)
            made.append(folder)
        yield folder
    finally:
        for done in reversed(made):
            done.rmdir()


def run_in(folder: Path, command: Sequence[str], env: Mapping[str, str]) -> str:
    """Run a command inside a cgroup; return what it prints."""
    inside = ["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *command]
    return subprocess.run(inside, env=env, capture_output=True, text=True, check=True, timeout=240).stdout


def _unified_root(controller: str) -> Path:
    for folder in (ROOT, ROOT / "unified"):
        available = folder / "cgroup.controllers"
        if available.exists() and controller in available.read_text().split():
            return folder
    pytest.skip(f"this machine has no controller {controller} in cgroups of version 2")


def _make(folder: Path, controller: str, level: Limits, *, unified: bool) -> None:
    try:
        if unified and controller not in (folder.parent / "cgroup.subtree_control").read_text().split():
            (folder.parent / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir()
        for name, value in level.items():
            (folder / name).write_text(value)
    except OSError as error:
        if folder.exists():
            folder.rmdir()
        pytest.skip(f"a cgroup for {controller} cannot be made here: {error}")
