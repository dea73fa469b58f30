"""What a target did with many hostile inputs."""

import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

FINDINGS_SHOWN = 10
HUNG_AFTER_S = 5.0
"""For what runs in this process and cannot be ended from outside."""


@dataclass
class Tally:
    """`outcomes` counts codes; `crashes` holds a sentence for each input that ended as nothing should."""

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
    def sound(self) -> bool:
        return not self.crashes and not self.hangs and not self.tracebacks


def own_peak_mb() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_table(tallies: Sequence[Tally]) -> str:
    """One line for each target, then its outcomes."""
    lines = [f"{'target':14}{'cases':>9}{'crashes':>9}{'hangs':>7}{'tracebacks':>12}{'peak MB':>9}{'seconds':>9}"]
    lines += [
        f"{tally.target:14}{tally.cases:>9,}{len(tally.crashes):>9}{tally.hangs:>7}{tally.tracebacks:>12}"
        f"{tally.peak_mb:>9.0f}{tally.seconds:>9.1f}"
        for tally in tallies
    ]
    for tally in tallies:
        lines.append(f"{tally.target}: " + ", ".join(f"{code} {n:,}" for code, n in tally.outcomes.most_common()))
        lines += [f"    {sentence}" for sentence in tally.crashes[:FINDINGS_SHOWN]]
    return "\n".join(lines) + "\n"
