"""CPU time of processes and of the machine."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

SERVERS = ("weed", "postgres", "valkey-server")


def server_pids() -> list[int]:
    """Process ids of the servers started by this process."""
    return [child.pid for child in psutil.Process().children() if child.name() in SERVERS]


def cpu_time_s(pids: Iterable[int]) -> float:
    """CPU seconds used so far by processes and their descendants, including ended children."""
    return sum(cpu_time_by_process(pids).values())


def cpu_time_by_process(pids: Iterable[int]) -> dict[int, float]:
    """CPU seconds used so far by each process and descendant, including its ended children."""
    used = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    used[one.pid] = times.user + times.system + times.children_user + times.children_system
    return used


def machine_cpu_time_s() -> float:
    """CPU seconds during which the machine was busy since it started, summed over all cores."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
