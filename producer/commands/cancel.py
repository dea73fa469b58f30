"""`fundus cancel`: cancel a run."""

from dataclasses import asdict
from typing import Annotated

import typer

from producer.runs.cancel import cancel
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command(name="cancel")
def cancel_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cancel a run. Grades are kept, and images that workers are processing are still graded.

    Examples:
    $ fundus cancel night-1
    """
    done = cancel(open_ledger(read_settings()), run)
    if json:
        print_json(asdict(done))
    else:
        stdout_console().print(f"{done.run} is cancelled: {done.cancelled:,} images will not be graded")
