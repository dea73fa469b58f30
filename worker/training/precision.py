"""Choose what a fit computes in: bfloat16 where the hardware has it, float32 elsewhere."""

from pathlib import Path
from typing import Literal

from worker.model.engines.factory import NVIDIA_DEVICE

Precision = Literal["bfloat16", "float32"]
CPUINFO = Path("/proc/cpuinfo")
FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Of processors that multiply bfloat16, x86 and ARM; `python -m tests.benchmarks.fit_speed` says what it is worth."""


def choose_precision(cpuinfo: Path = CPUINFO, gpu: Path = NVIDIA_DEVICE) -> Precision:
    """For this machine; float32 where the processor does not say what it can do."""
    if gpu.exists():
        return "bfloat16"
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "float32"
    flags = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return "bfloat16" if flags & FLAGS else "float32"
