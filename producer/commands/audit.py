"""`fundus audit`: show the audit log."""

import json as jsons
from typing import Annotated, Any

import typer
from rich.table import Table

from worker.core.settings import read_settings
from worker.core.terminal.output import escape_control_characters, print_json, stdout_console
from worker.ledger.audit_log import read_audit_log
from worker.ledger.migrate import open_ledger
from worker.ledger.photograph_views import read_views

_COLUMNS = ("when", "who", "what", "run", "version", "details")
_VIEW_COLUMNS = ("when", "who", "what", "run", "image")

app = typer.Typer()


@app.command()
def audit(
    *,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Show only the actions on this run.")] = None,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of latest entries to show.")] = 100,
    views: Annotated[
        bool, typer.Option("--views", help="Show who viewed which photographs in the console instead.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show the audit log: who did what to which run, when, and with which version of the program.

    Examples:
    $ fundus audit --run night-1
    $ fundus audit --last 10 --json | jq .action
    $ fundus audit --views --run night-1
    """
    engine = open_ledger(read_settings())
    entries = (read_views if views else read_audit_log)(engine, run=run, last=last)
    if json:
        for entry in entries:
            print_json(entry)
        return
    columns, to_cells = (_VIEW_COLUMNS, _view_cells) if views else (_COLUMNS, _cells)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(*map(escape_control_characters, to_cells(entry)))
    stdout_console().print(table)


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    details = jsons.dumps(entry["details"], ensure_ascii=False)
    return entry["at"][:19], entry["actor"], entry["action"], entry["run"] or "", entry["version"], details


def _view_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    return entry["at"][:19], entry["viewer"], entry["picture"], entry["run"], entry["image_id"]
