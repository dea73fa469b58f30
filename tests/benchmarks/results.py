"""Keep RESULTS.md: each benchmark writes its own section, with the machine it ran on, and leaves the others alone."""

import os
import platform
import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_FLAGS = ("avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def write_section(name: str, body: str) -> None:
    """Put `body` between the marks of that name, which are added at the end if they are not there yet."""
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
    """Processor, its cores and what it can calculate with, memory, system and Python."""
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
    """A Markdown table, its columns aligned so that it reads well on a terminal, too."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)
