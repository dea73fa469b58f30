"""Tables of a check, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.results import as_table

COLUMNS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "acceptance": {
        "engine": ("engine", ""), "precision": ("precision", ""), "images": ("photographs", ""),
        "same_grades": ("same grade", ".2%"), "probability_p99": ("probability change, 99th pct", ".5f"),
        "saliency_p1": ("saliency correlation, 1st pct", ".5f"), "passed": ("passed", ""),
    },
    "engines": {
        "engine": ("engine", ""), "precision": ("precision", ""), "batch": ("batch", ""),
        "explain": ("grade and explain, images/s", ".1f"), "pair": ("two batches at once", ".1f"),
        "forward": ("forward alone", ".1f"), "share": ("share", ".2f"), "device": ("device", ""),
    },
    "job": {
        "workers": ("workers", ""), "processes": ("processes each", ""), "rate": ("images/s", ".1f"),
        "busy": ("engine busy, s/s", ".2f"), "batch": ("mean batch", ".1f"),
        "worker_ms": ("worker processes, ms of CPU time", ".1f"), "decoder_ms": ("decoding", ".1f"),
        "host_bound": ("bound of the cores, images/s", ".1f"),
    },
    "memory": {
        "engine": ("engine", ""), "batch": ("images", ""), "batches": ("batches tried", ""),
        "answered": ("answered", ""),
    },
    "fit": {
        "backend": ("backend", ""), "backbone": ("backbone", ""), "size_px": ("px", ""), "images": ("photographs", ""),
        "epochs": ("epochs", ""), "seconds": ("whole command, s", ".1f"),
    },
}  # fmt: skip
"""Columns of each part: key of the JSON, title and format."""


def format_report(report: Mapping[str, Any]) -> str:
    """Return the page of a check's JSON."""
    sections = [f"# Device check\n\n{report['model']} on {report['machine']}."]
    for name, part in report["parts"].items():
        sections.append(f"## {name}\n\n{part['seconds']} s\n\n{_format_table(part['rows'], COLUMNS[name])}")
    bounds = _format_bounds(report["parts"])
    failed = [f"- {name}: {reason}" for name, reason in report["failed"].items()]
    return "\n\n".join([*sections, *bounds, *(["## failed\n\n" + "\n".join(failed)] if failed else [])]) + "\n"


def _format_bounds(parts: Mapping[str, Any]) -> list[str]:
    """Return the best job as a share of the smaller one of the two bounds: the fastest engine, and the cores."""
    if not {"engines", "job"} <= parts.keys():
        return []
    device = max(row["explain"] for row in parts["engines"]["rows"])
    best = max(parts["job"]["rows"], key=lambda row: row["rate"])
    bound = min(device, best["host_bound"])
    return [
        f"The best job grades {best['rate']:.1f} images/s: {best['rate'] / bound:.2f} of {bound:.1f}, the smaller"
        f" one of {device:.1f} of the fastest engine and {best['host_bound']:.1f} of the cores."
    ]


def _format_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]) -> str:
    cells = [tuple(_format_cell(row[key], spec) for key, (_, spec) in columns.items()) for row in rows]
    return as_table(tuple(title for title, _ in columns.values()), cells)


def _format_cell(value: Any, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return format(value, spec) if spec else str(value)
