"""Tables and plot of the engine benchmark: throughput, and ratios with their targets."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.engine_process import EngineProcess
from tests.benchmarks.results import as_table


@dataclass(frozen=True)
class RoundResult:
    """One engine in one round. cpu_ms: CPU time per image, summed over all threads."""

    images_per_s: float
    cpu_ms: float


Results = dict[str, list[RoundResult]]
"""One result per round, by engine."""


@dataclass(frozen=True)
class Comparison:
    """A ratio of two throughputs and its minimum."""

    ratio: str
    numerator: str
    denominator: str
    target: float
    """0 for no target."""


COMPARISONS = (
    Comparison("grade and explain / forward only, OpenVINO", "fundus, OpenVINO", "raw OpenVINO", 0.97),
    Comparison("grade and explain / forward only, TensorFlow", "fundus, TensorFlow", "TensorFlow", 0.97),
    Comparison("grade and explain / forward only, JAX", "fundus, JAX", "JAX", 0.97),
    Comparison("TensorFlow engine / notebook's loop", "fundus, TensorFlow", "notebook's loop", 20),
    Comparison("best CPU engine / ONNX Runtime", "fundus, OpenVINO", "ONNX Runtime", 2),
    Comparison("best CPU engine / pytorch-grad-cam", "fundus, OpenVINO", "pytorch-grad-cam", 2),
    Comparison("best CPU engine / tf-keras-vis", "fundus, OpenVINO", "tf-keras-vis", 2),
    Comparison("best CPU engine / TensorFlow forward only", "fundus, OpenVINO", "TensorFlow", 2),
    Comparison("best CPU engine / notebook's loop", "fundus, OpenVINO", "notebook's loop", 2),
    Comparison("OpenVINO int8 / bfloat16", "fundus, OpenVINO int8", "fundus, OpenVINO", 0),
)


def format_rates(processes: list[EngineProcess], results: Results) -> str:
    """Format one row per engine; an unavailable engine gets the reason. The last column compares probabilities."""
    reference = next((one.output for one in processes if one.spec.name == "fundus, TensorFlow"), None)
    rows = []
    for process in processes:
        name, task = process.spec.name, "grade and explain" if process.spec.explains else "forward only"
        if process.output is None:
            rows.append((name, task, process.unavailable_reason or "", "", ""))
            continue
        difference = "" if reference is None else f"{np.abs(process.output[0] - reference[0]).max():.4f}"
        speed = format_quartiles([one.images_per_s for one in results[name]], 1)
        rows.append((name, task, speed, format_quartiles([one.cpu_ms for one in results[name]], 1), difference))
    return as_table(("engine", "task", "images/s", "CPU ms/image", "max difference from float32"), rows)


def format_ratios(results: Results) -> str:
    """Format the ratios that were measured; wall-clock time decides whether a target is met."""
    rows = []
    for comparison in COMPARISONS:
        if comparison.numerator not in results or comparison.denominator not in results:
            continue
        rounds = list(zip(results[comparison.numerator], results[comparison.denominator], strict=True))
        ratios = [one.images_per_s / other.images_per_s for one, other in rounds]
        cpu_ratios = [other.cpu_ms / one.cpu_ms for one, other in rounds]
        verdict = "met" if np.median(ratios) >= comparison.target else "missed"
        target = f">= {comparison.target:g}"
        if not comparison.target:
            verdict = target = ""
        rows.append((comparison.ratio, target, format_quartiles(ratios, 3), verdict, format_quartiles(cpu_ratios, 3)))
    return as_table(("ratio", "target", "wall-clock time", "", "CPU time"), rows)


def format_quartiles(values: list[float], digits: int) -> str:
    """Format as median (first to third quartile)."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def plot_rates(results: Results, path: Path) -> None:
    """Plot the medians as bars with whiskers at the quartiles, the fastest engine on top."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    speeds = {name: [one.images_per_s for one in rounds] for name, rounds in results.items()}
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
