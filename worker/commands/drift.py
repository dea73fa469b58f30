"""`fundus drift`: has what comes in changed?"""

from typing import Annotated

import typer
from rich.console import Console

from worker.core.settings import read_settings
from worker.evaluation.drift.psi import DriftLevel, measure_drift
from worker.evaluation.drift.view import draw_drift
from worker.evaluation.labelled import find_graded_run
from worker.ledger.database import connect
from worker.ledger.migrate import require_compatible

app = typer.Typer()


@app.command()
def drift(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run to look at.")],
    against: Annotated[str, typer.Option(metavar="RUN", help="A run that was well.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when the verdict is drift.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare outcomes, grades, chances and confidence of a run with those of an earlier one.

    Examples:
    $ fundus drift night-2 --against night-1
    $ fundus drift night-2 --against night-1 --check --json
    """
    engine = connect(read_settings())
    require_compatible(engine)
    found = measure_drift(engine, find_graded_run(engine, run), find_graded_run(engine, against))
    if json:
        typer.echo(found.model_dump_json())
    else:
        Console(highlight=False).print(draw_drift(found))
    if check and found.verdict is DriftLevel.DRIFT:
        raise typer.Exit(1)
