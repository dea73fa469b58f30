"""`fundus status`: show the state of runs."""

from typing import Annotated

import typer

from producer.views.status import draw_overview, draw_progress
from producer.views.watch import watch_run
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.migrate import open_ledger
from worker.ledger.status import describe_counts, describe_progress, read_overview, read_progress

app = typer.Typer()


@app.command()
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Name of the run.", show_default="the latest runs")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it is finished.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    last: Annotated[int, typer.Option(min=1, max=1000, help="Number of runs to list.")] = 20,
) -> None:
    """Show counts by status and grade, images/s, time left and errors by code.

    Examples:
    $ fundus status
    $ fundus status night-1 --watch
    $ fundus status night-1 --json | jq .graded
    """
    if watch and run is None:
        raise UsageError("--watch needs the name of a run")
    engine = open_ledger(read_settings())
    if run is None:
        runs = read_overview(engine, last)
        if json:
            print_json({"runs": [describe_counts(*entry) for entry in runs]})
        else:
            stdout_console().print(
                draw_overview(runs) if runs else "No runs yet. Start with: fundus enqueue SOURCE --run NAME"
            )
        return
    progress = watch_run(engine, run) if watch else read_progress(engine, run)
    if json:
        print_json(describe_progress(progress))
    else:
        stdout_console().print(draw_progress(progress))
