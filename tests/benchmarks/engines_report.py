"""What the rounds of the engines say: rates, ratios against their targets, and a plot."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.contender import Contender
from tests.benchmarks.results import as_table


@dataclass(frozen=True)
class Turn:
    """What one contender achieved in one round; `processor_ms` is for one image, all threads together."""

    images_per_s: float
    processor_ms: float


Rates = dict[str, list[Turn]]
"""By contender, one value a round."""


@dataclass(frozen=True)
class Comparison:
    """`ours` over `theirs` has to reach `target`."""

    claim: str
    ours: str
    theirs: str
    target: float
    """0: none is set."""


COMPARISONS = (
    Comparison("grade and explain / forward alone, OpenVINO", "fundus, OpenVINO", "raw OpenVINO", 0.97),
    Comparison("grade and explain / forward alone, TensorFlow", "fundus, TensorFlow", "TensorFlow", 0.97),
    Comparison("TensorFlow engine / the notebook's loop", "fundus, TensorFlow", "notebook's loop", 20),
    Comparison("best CPU engine / ONNX Runtime", "fundus, OpenVINO", "ONNX Runtime", 2),
    Comparison("best CPU engine / pytorch-grad-cam", "fundus, OpenVINO", "pytorch-grad-cam", 2),
    Comparison("best CPU engine / tf-keras-vis", "fundus, OpenVINO", "tf-keras-vis", 2),
    Comparison("best CPU engine / TensorFlow's forward pass", "fundus, OpenVINO", "TensorFlow", 2),
    Comparison("best CPU engine / the notebook's loop", "fundus, OpenVINO", "notebook's loop", 2),
    Comparison("OpenVINO, 8 bits / bfloat16", "fundus, OpenVINO int8", "fundus, OpenVINO", 0),
)


def rates_table(contenders: list[Contender], rates: Rates) -> str:
    """One row each; who cannot run here says why. The last column is the largest difference of a probability."""
    reference = next((one.answer for one in contenders if one.entry.name == "fundus, TensorFlow"), None)
    rows = []
    for contender in contenders:
        name, does = contender.entry.name, "grade and explain" if contender.entry.explains else "forward alone"
        if contender.answer is None:
            rows.append((name, does, contender.refusal or "", "", ""))
            continue
        apart = "" if reference is None else f"{np.abs(contender.answer[0] - reference[0]).max():.4f}"
        speed = with_spread([turn.images_per_s for turn in rates[name]], 1)
        rows.append((name, does, speed, with_spread([turn.processor_ms for turn in rates[name]], 1), apart))
    return as_table(("engine", "does", "images/s", "processor ms/image", "apart from float32"), rows)


def ratios_table(rates: Rates) -> str:
    """The comparisons that were measured; the clock decides."""
    rows = []
    for comparison in COMPARISONS:
        if comparison.ours not in rates or comparison.theirs not in rates:
            continue
        rounds = list(zip(rates[comparison.ours], rates[comparison.theirs], strict=True))
        ratios = [ours.images_per_s / theirs.images_per_s for ours, theirs in rounds]
        costs = [theirs.processor_ms / ours.processor_ms for ours, theirs in rounds]
        verdict = "met" if np.median(ratios) >= comparison.target else "missed"
        target = f">= {comparison.target:g}"
        if not comparison.target:
            verdict = target = ""
        rows.append((comparison.claim, target, with_spread(ratios, 3), verdict, with_spread(costs, 3)))
    return as_table(("ratio", "target", "by the clock", "", "by processor time"), rows)


def with_spread(values: list[float], digits: int) -> str:
    """Median and quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def plot_rates(rates: Rates, path: Path) -> None:
    """Bars of the medians with whiskers from quartile to quartile, the quickest on top."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    speeds = {name: [turn.images_per_s for turn in turns] for name, turns in rates.items()}
    names = sorted(speeds, key=lambda name: float(np.median(speeds[name])))
    low, median, high = np.percentile([speeds[name] for name in names], [25, 50, 75], axis=1)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    colours = ["tab:blue" if name.startswith("fundus") else "tab:gray" for name in names]
    bars = axes.barh(names, median, xerr=(median - low, high - median), color=colours, ecolor="black", capsize=3)
    axes.bar_label(bars, [f"{value:.3g}" for value in median], padding=4)
    axes.set_xscale("log")
    axes.set_xlim(right=3 * max(median))
    axes.set_xlabel("images/s, batch 16")
    figure.savefig(path, dpi=100)
