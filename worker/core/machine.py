"""The processor cores and the memory that this process may use."""

import math
import os
import platform
from importlib.util import find_spec
from pathlib import Path

from worker.core.cgroup import read_cpu_quota, read_memory_limit

DECODER_REMEDY = "lower FUNDUS_DECODE_PROCESSES or FUNDUS_DECODE_MEMORY_MB, or raise the container's memory limit"


def usable_cores() -> int:
    """Return the cores of the affinity mask, or fewer where the cgroup has a quota, rounded up; at least 1."""
    return quota_cores() or _allowed_cores()


def quota_cores() -> int | None:
    """Return the usable cores if a quota allows fewer than the affinity mask, else None.

    OpenVINO and TensorFlow count the cores of the mask themselves, and leave out hyperthreads where these are slower.
    """
    quota = read_cpu_quota()
    cores = _allowed_cores() if quota is None else max(1, math.ceil(quota))
    return cores if cores < _allowed_cores() else None


def default_decoders(memory_mb: int) -> int:
    """Return the number of decoding processes of `memory_mb` MiB each for the usable cores and the memory limit."""
    return max(1, min([usable_cores(), *_fitting(memory_mb)]))


def default_decode_budget_mb(memory_mb: int) -> int:
    """Return half of the memory of the cgroup or the machine, in MiB, and at least what one process may use."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = read_memory_limit()
    return max(memory_mb, (installed if limit is None else min(limit, installed)) // 2**21)


def find_memory_excess(decoders: int, memory_mb: int) -> str | None:
    """Return in words that the decoding processes together may exceed the memory limit of the cgroup, else None."""
    if not any(decoders > fitting for fitting in _fitting(memory_mb)):
        return None
    limit_mb = (read_memory_limit() or 0) // 2**20
    return (
        f"{decoders} decoding processes of {memory_mb} MiB may use {decoders * memory_mb} MiB, "
        f"and this container's limit is {limit_mb} MiB"
    )


def has_worker_packages() -> bool:
    """Return whether this machine can grade: Keras is part of the extras `worker`, `gpu` and `jax`."""
    return find_spec("keras") is not None


def processor_name() -> str:
    """Return the processor's name as the kernel reports it, else the machine's type."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _fitting(memory_mb: int) -> tuple[int, ...]:
    limit = read_memory_limit()
    return () if limit is None else (limit // (memory_mb * 2**20),)


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
