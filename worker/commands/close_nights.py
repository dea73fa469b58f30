"""`fundus close-nights`: close finished nights."""

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
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per night.")] = False,
) -> None:
    """Close finished nights: test for drift, show where the report is and send alerts.

    Workers write the report to the overlay store. With FUNDUS_REPORTS_DIR, this command writes another one there.
    A closed night that gets more images is closed again.
    Alerts report failed and ungradable images above the limits, drift, and a missing report.
    The exit status is 1 if an alert is not delivered; the next call sends it again.

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
