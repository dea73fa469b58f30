"""`fundus doctor`: check the installation and explain how to fix it."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from producer.doctor.check import Check, CheckStatus
from producer.doctor.checkup import run_checks
from producer.doctor.settings import NAME as SETTINGS
from producer.doctor.workers import check_workers
from worker.core.errors import SettingsError
from worker.core.terminal.output import escape_control_characters, print_json, stderr_console, stdout_console

app = typer.Typer()

_STYLES = {
    CheckStatus.OK: "green",
    CheckStatus.WARNING: "yellow",
    CheckStatus.FAILED: "bold red",
    CheckStatus.ABSENT: "dim",
}


@app.command()
def doctor(
    *,
    worker: Annotated[bool, typer.Option("--worker", help="Check only the workers of this machine.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check settings, database, broker, storage, model and device by using them.

    The exit status is 1 if a check fails, and 2 if a setting is invalid or unknown.

    Examples:
    $ fundus doctor
    $ fundus doctor --worker     # liveness probe, reads heartbeat files only
    $ fundus doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    results = iter(check_workers()) if worker else run_checks()
    checks: list[Check] = []
    while (check := _next(results)) is not None:
        checks.append(check)
        if not json:
            stdout_console().print(_draw(check))
    all_ok = all(check.ok for check in checks)
    if json:
        print_json({"ok": all_ok, "checks": [_describe(check) for check in checks]})
    if not all_ok:
        is_usable = all(check.ok for check in checks if check.name == SETTINGS)
        raise typer.Exit(1 if is_usable else SettingsError.exit_status)


def _next(results: Iterator[Check]) -> Check | None:
    with stderr_console().status("checking ..."):
        return next(results, None)


def _describe(check: Check) -> dict[str, object]:
    return {"name": check.name, "verdict": check.status, "detail": check.detail, "remedy": check.remedy}


def _draw(check: Check) -> Table:
    body = Text(escape_control_characters(check.detail))
    if check.remedy:
        body.append(f"\nfix: {escape_control_characters(check.remedy)}", style="bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8)
    table.add_column(width=8)
    table.add_column(overflow="fold")
    table.add_row(Text(check.status, _STYLES[check.status]), check.name, body)
    return table
