"""`fundus doctor`: what works here, and how to mend what does not."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from producer.doctor.check import Check, Verdict
from producer.doctor.checkup import run_checks
from producer.doctor.workers import check_workers
from worker.core.terminal.output import answers, messages, print_json, printable

app = typer.Typer()

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.ABSENT: "dim"}


@app.command()
def doctor(
    *,
    worker: Annotated[bool, typer.Option("--worker", help="Only see whether this machine's workers work.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check settings, database, broker, storage, model and device by using them. Exit 1 when one fails.

    Examples:
    $ fundus doctor
    $ fundus doctor --worker     # a liveness probe: reads heartbeats, reaches nothing
    $ fundus doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    findings = iter(check_workers()) if worker else run_checks()
    checks: list[Check] = []
    while (check := _next(findings)) is not None:
        checks.append(check)
        if not json:
            answers().print(_draw(check))
    all_well = all(check.ok for check in checks)
    if json:
        print_json({"ok": all_well, "checks": [asdict(check) for check in checks]})
    if not all_well:
        raise typer.Exit(1)


def _next(findings: Iterator[Check]) -> Check | None:
    with messages().status("checking ..."):
        return next(findings, None)


def _draw(check: Check) -> Table:
    body = Text(printable(check.detail))
    if check.remedy:
        body.append(f"\nto mend: {printable(check.remedy)}", style="bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8)
    table.add_column(width=8)
    table.add_column(overflow="fold")
    table.add_row(Text(check.verdict, _STYLES[check.verdict]), check.name, body)
    return table
