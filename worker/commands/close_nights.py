"""`fundus close-nights`: close the nights whose runs are over."""

import json as jsons
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from worker.core.settings import read_settings
from worker.maintenance.close_nights import close_ended_nights

app = typer.Typer()


@app.command(name="close-nights")
def close_nights(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a night.")] = False,
) -> None:
    """Close each night whose run is over: measure drift, tell where its report is, raise alarms.

    Workers write a night's report beside its overlays; with FUNDUS_REPORTS_DIR, this writes one there, too.
    A night is closed once; one that got more images is closed again.
    Alarms go out when too many images failed or could not be graded,
    on drift, and when there is no report.
    An alarm that was not taken ends it with status 1; the next call sends it again.

    Examples:
    $ fundus nightly /photos/inbox --watch && fundus close-nights
    $ fundus close-nights --json | jq .verdict
    """
    closed = close_ended_nights(read_settings())
    console = Console(highlight=False)
    if not closed and not json:
        console.print("no night to close")
    for night in closed:
        if json:
            typer.echo(jsons.dumps(asdict(night)))
            continue
        counts = ", ".join(f"{count:,} {status}" for status, count in night.by_status.items() if count)
        drift = "not compared" if night.verdict is None else night.verdict
        console.print(f"{night.run}: {counts or 'no images'}; drift: {drift}", markup=False)
        if night.report is not None:
            console.print(f"  {night.report}", soft_wrap=True, markup=False)
        for finding in night.findings:
            console.print(f"  ! {finding}", soft_wrap=True, markup=False)
