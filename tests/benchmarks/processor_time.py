"""Processor time of processes and of the machine."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

SERVERS = ("weed", "postgres", "valkey-server")


def server_pids() -> list[int]:
    """The servers that this process has started."""
    return [child.pid for child in psutil.Process().children() if child.name() in SERVERS]


def used_s(pids: Iterable[int]) -> float:
    """Seconds of processor time that these processes, their children and their dead children have taken so far."""
    return sum(used_by(pids).values())


def used_by(pids: Iterable[int]) -> dict[int, float]:
    """The same of each process, its dead children included."""
    used = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    used[one.pid] = times.user + times.system + times.children_user + times.children_system
    return used


def machine_busy_s() -> float:
    """Seconds of processor time that this machine did not idle since it started, all cores together."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
