"""Write RESULTS.md: each benchmark replaces its section, which names the machine, and no other."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).with_name("RESULTS.md")
_FLAGS = ("avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def write_section(name: str, body: str) -> None:
    """Replace the section between the markers of that name; a new section is appended."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Benchmarks\n"
    if begin in text:
        head, rest = text.split(begin, 1)
        text = head + section + rest.split(end, 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    RESULTS.write_text(text, encoding="utf-8")


def describe_machine() -> str:
    """Describe CPU, cores, vector extensions, memory, operating system and Python version."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    listed = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    flags = [flag for flag in _FLAGS if listed and flag in listed[1].split()]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = model[1].strip() if model else platform.machine()
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores ({', '.join(flags) or 'no AVX-512'}), {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def as_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Format a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def format_range(values: Sequence[float], digits: int = 2) -> str:
    """Format as median (minimum to maximum)."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
