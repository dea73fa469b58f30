"""Choose the precision of a fit: bfloat16 if the hardware supports it, else float32."""

from pathlib import Path
from typing import Literal

from worker.model.engines.factory import NVIDIA_DEVICE

Precision = Literal["bfloat16", "float32"]
CPUINFO = Path("/proc/cpuinfo")
FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""CPU flags of bfloat16 arithmetic on x86 and ARM; `python -m tests.benchmarks.fit_throughput` measures the gain."""


def choose_precision(cpuinfo: Path = CPUINFO, gpu: Path = NVIDIA_DEVICE) -> Precision:
    """Return the precision for this machine; float32 if the flags of the processor are unknown."""
    if gpu.exists():
        return "bfloat16"
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "float32"
    flags = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return "bfloat16" if flags & FLAGS else "float32"
