"""`fundus drift`: test a run for distribution drift."""

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
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run to test.")],
    against: Annotated[str, typer.Option(metavar="RUN", help="Baseline: a run without drift.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Exit with status 1 if the level is drift.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test outcomes, grades, probabilities and confidence of a run for drift against a baseline run.

    Examples:
    $ fundus drift night-2 --against night-1
    $ fundus drift night-2 --against night-1 --check --json
    """
    engine = connect(read_settings())
    require_compatible(engine)
    measured = measure_drift(engine, find_graded_run(engine, run), find_graded_run(engine, against))
    if json:
        typer.echo(measured.to_json())
    else:
        Console(highlight=False).print(draw_drift(measured))
    if check and measured.level is DriftLevel.DRIFT:
        raise typer.Exit(1)
