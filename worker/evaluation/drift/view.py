"""A drift measurement on the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.evaluation.drift.psi import Drift, DriftFeature, DriftLevel

STYLES = {DriftLevel.STABLE: "green", DriftLevel.WATCH: "yellow", DriftLevel.DRIFT: "bold red"}
ADVICE = {
    DriftLevel.STABLE: "nothing to do",
    DriftLevel.WATCH: "look at the next night",
    DriftLevel.DRIFT: "find out what changed (camera, clinic, source, model) before the grades are used",
}


def draw_drift(drift: Drift) -> RenderableType:
    """The verdict, the features, and the bins of those that moved."""
    head = Text.assemble(
        f"{drift.run} ({drift.images:,} images) against {drift.baseline} ({drift.baseline_images:,}): ",
        (str(drift.verdict), STYLES[drift.verdict]),
        f", {ADVICE[drift.verdict]}",
    )
    table = Table("feature", "stability index", "by chance", "verdict")
    for feature in drift.features:
        chance = "< 0.001" if feature.chance < 0.001 else f"{feature.chance:.3f}"
        verdict = Text(str(feature.verdict), style=STYLES[feature.verdict])
        table.add_row(feature.name, f"{feature.index:.3f}", chance, verdict)
    moved = [_bins(feature, drift) for feature in drift.features if feature.verdict is not DriftLevel.STABLE]
    return Group(head, table, *moved)


def _bins(feature: DriftFeature, drift: Drift) -> Table:
    table = Table(feature.name, drift.baseline, drift.run)
    for entry in feature.bins:
        table.add_row(entry.name, f"{entry.baseline:.1%}", f"{entry.share:.1%}")
    return table
