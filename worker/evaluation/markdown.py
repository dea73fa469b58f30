"""Render Markdown reports from the Jinja2 templates of a package."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from worker.evaluation.bootstrap import Estimate
from worker.evaluation.view import format_estimate, format_name


def render_markdown(package: str, template: str, **content: object) -> str:
    """Render a template of a package. The filters `estimate`, `difference` and `words` and `table()` are available."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=False,  # noqa: S701 - Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"estimate": format_estimate, "difference": format_difference, "words": format_name}
    environment.globals["table"] = markdown_table
    return environment.get_template(template).render(**content)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; numbers and estimates are formatted, and `|` in cells is replaced by `/`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_format_cell(cell) for cell in line)} |" for line in lines)


def format_difference(estimate: Estimate) -> str:
    """Return a text such as `+0.296 (+0.130 to +0.444)`, or `-` if the difference is undefined."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def _format_cell(cell: object) -> str:
    text = format_estimate(cell) if isinstance(cell, Estimate) else str(cell)
    return text.replace("|", "/")
