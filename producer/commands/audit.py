"""`fundus audit`: show the audit log."""

import json as jsons
from typing import Annotated

import typer
from rich.table import Table

from worker.core.settings import read_settings
from worker.core.terminal.output import escape_control_characters, print_json, stdout_console
from worker.ledger.audit_log import read_audit_log
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command()
def audit(
    *,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Show only the actions on this run.")] = None,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of latest entries to show.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show the audit log: who did what to which run, when, and with which version of the program.

    Examples:
    $ fundus audit --run night-1
    $ fundus audit --last 10 --json | jq .action
    """
    entries = read_audit_log(open_ledger(read_settings()), run=run, last=last)
    if json:
        for entry in entries:
            print_json(entry)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("when", "who", "what", "run", "version", "details"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        details = jsons.dumps(entry["details"], ensure_ascii=False)
        cells = (entry["at"][:19], entry["actor"], entry["action"], entry["run"] or "", entry["version"], details)
        table.add_row(*map(escape_control_characters, cells))
    stdout_console().print(table)
