"""Outcomes of one fuzz target."""

import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_CRASHES_SHOWN = 10
HANG_TIMEOUT_S = 5.0
"""An input that takes longer counts as a hang; the call itself is not interrupted."""


@dataclass
class FuzzResult:
    """Outcomes of one target. outcomes: count by error code. crashes: a description of each unexpected error."""

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: int = 0
    tracebacks: int = 0
    peak_mb: float = 0.0
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values()) + len(self.crashes) + self.hangs

    @property
    def passed(self) -> bool:
        return not self.crashes and not self.hangs and not self.tracebacks


def peak_memory_mb() -> float:
    """Peak resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def format_table(results: Sequence[FuzzResult]) -> str:
    """Format one row for each target, then its outcomes and crashes."""
    lines = [f"{'target':14}{'cases':>9}{'crashes':>9}{'hangs':>7}{'tracebacks':>12}{'peak MB':>9}{'seconds':>9}"]
    lines += [
        f"{result.target:14}{result.cases:>9,}{len(result.crashes):>9}{result.hangs:>7}{result.tracebacks:>12}"
        f"{result.peak_mb:>9.0f}{result.seconds:>9.1f}"
        for result in results
    ]
    for result in results:
        lines.append(f"{result.target}: " + ", ".join(f"{code} {n:,}" for code, n in result.outcomes.most_common()))
        lines += [f"    {sentence}" for sentence in result.crashes[:MAX_CRASHES_SHOWN]]
    return "\n".join(lines) + "\n"
