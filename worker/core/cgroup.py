"""Read the CPU quota and the memory limit of this process's cgroup, of version 1 or 2.

A container's limits are those of a cgroup. `os.cpu_count` and the affinity mask show neither.
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

PROC = Path("/proc/self")
UNLIMITED_BYTES = 2**60
"""Version 1 states no limit as the largest multiple of the page size, version 2 as `max`."""

Number = TypeVar("Number", int, float)


def read_cpu_quota(proc: Path = PROC) -> float | None:
    """Return the CPU time that this process may use per time, in cores; None if it is not limited.

    proc: the process's folder in /proc. The smallest quota of its cgroup and their parents applies.
    """
    return _smallest("cpu", _read_quota, proc)


def read_memory_limit(proc: Path = PROC) -> int | None:
    """Return the bytes beyond which the kernel kills processes of this cgroup; None if they are not limited."""
    return _smallest("memory", _read_memory, proc)


def _smallest(controller: str, read: Callable[[Path], Number | None], proc: Path) -> Number | None:
    limits = [limit for folder in _folders(controller, proc) if (limit := _read_or_none(read, folder)) is not None]
    return min(limits, default=None)


def _read_or_none(read: Callable[[Path], Number | None], folder: Path) -> Number | None:
    try:
        return read(folder)
    except (OSError, ValueError):  # the controller belongs to the other version, or this is the root cgroup
        return None


def _read_quota(folder: Path) -> float | None:
    if (unified := folder / "cpu.max").exists():
        quota, period = unified.read_text().split()
    else:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _read_memory(folder: Path) -> int | None:
    unified = folder / "memory.max"
    limit = (unified if unified.exists() else folder / "memory.limit_in_bytes").read_text().strip()
    return None if limit == "max" or int(limit) >= UNLIMITED_BYTES else int(limit)


def _folders(controller: str, proc: Path) -> Iterator[Path]:
    """Yield the folder of this process's cgroup and those of its parents, for both versions."""
    try:
        memberships, mounts = (proc / "cgroup").read_text(), (proc / "mountinfo").read_text()
    except OSError:
        return
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root, mount_point in _mounts(mounts, controller if controllers else None):
            below = _relative(path, root)
            yield from (mount_point / part for part in (below, *below.parents))


def _mounts(mounts: str, controller: str | None) -> Iterator[tuple[str, Path]]:
    """Yield root and mount point of version 1's hierarchy of a controller; None: of version 2."""
    for line in mounts.splitlines():
        place, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if (kind == "cgroup" and controller in options.split(",")) or (kind == "cgroup2" and controller is None):
            _, _, _, root, mount_point, *_ = place.split(" ")
            yield root, Path(mount_point.encode().decode("unicode_escape"))


def _relative(path: str, root: str) -> PurePosixPath:
    """Return the place of a cgroup below a mount. A container may see the host's path, and mounts its own cgroup."""
    inside = PurePosixPath(path)
    if ".." in inside.parts or not inside.is_relative_to(root):
        return PurePosixPath()
    return inside.relative_to(root)
