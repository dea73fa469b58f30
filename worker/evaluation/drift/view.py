"""Show a drift measurement on the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.evaluation.drift.psi import Drift, DriftFeature, DriftLevel

STYLES = {DriftLevel.STABLE: "green", DriftLevel.WATCH: "yellow", DriftLevel.DRIFT: "bold red"}
ADVICE = {
    DriftLevel.STABLE: "nothing to do",
    DriftLevel.WATCH: "watch the next night",
    DriftLevel.DRIFT: "find the cause (camera, clinic, source, model) before the grades are used",
}


def draw_drift(drift: Drift) -> RenderableType:
    """Return the drift level, the features, and the bins of the features that changed."""
    head = Text.assemble(
        f"{drift.run} ({drift.images:,} images) against {drift.baseline} ({drift.baseline_images:,}): ",
        (str(drift.level), STYLES[drift.level]),
        f", {ADVICE[drift.level]}",
    )
    table = Table("feature", "stability index", "p-value", "level")
    for feature in drift.features:
        p_value = "< 0.001" if feature.p_value < 0.001 else f"{feature.p_value:.3f}"
        level = Text(str(feature.level), style=STYLES[feature.level])
        table.add_row(feature.name, f"{feature.psi:.3f}", p_value, level)
    changed = [_bins(feature, drift) for feature in drift.features if feature.level is not DriftLevel.STABLE]
    return Group(head, table, *changed)


def _bins(feature: DriftFeature, drift: Drift) -> Table:
    table = Table(feature.name, drift.baseline, drift.run)
    for entry in feature.bins:
        table.add_row(entry.name, f"{entry.baseline:.1%}", f"{entry.share:.1%}")
    return table
