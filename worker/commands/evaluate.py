"""`fundus evaluate`: measure agreement with reference grades."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.terminal.output import stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.evaluation.bootstrap import RESAMPLES, SEED
from worker.evaluation.document import evaluate as evaluate_run
from worker.evaluation.document import read_subgroup_columns
from worker.evaluation.labelled import find_graded_run, read_labelled
from worker.evaluation.view import draw_evaluation
from worker.ledger.database import connect
from worker.ledger.migrate import require_compatible

app = typer.Typer()


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run that was enqueued with reference grades.")],
    out: Annotated[Path | None, typer.Option(help="Output folder for evaluation.json, plots and galleries.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV with image_id and other columns (camera, site): metrics for each value.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, max=100, help="Images in each gallery.")] = 8,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Number of bootstrap resamples.")] = RESAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = SEED,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure agreement of a run with reference grades, with 95% intervals; other images are ignored.

    Examples:
    $ fundus evaluate night-1
    $ fundus evaluate night-1 --out night-1 --groups cameras.csv
    $ fundus evaluate night-1 --json | jq .figures.referable_auc
    """
    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    graded_run = find_graded_run(engine, run)
    images = read_labelled(engine, graded_run)
    columns = read_subgroup_columns(images, groups)
    messages = stderr_console()
    with progress_bar(messages, unit="resamples") as progress:
        task = progress.add_task("resampling", total=None)
        evaluation = evaluate_run(
            graded_run, images, columns, resamples=resamples, seed=seed, on_progress=lambda: progress.advance(task)
        )
    if out is not None:
        # Matplotlib is slow to import.
        from worker.evaluation.gallery import draw_galleries
        from worker.evaluation.plots import draw_plots

        try:
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / "evaluation.json", (evaluation.to_json(indent=2) + "\n").encode())
            draw_plots(evaluation, images, out)
            if rows:
                draw_galleries(
                    engine,
                    settings,
                    graded_run,
                    images,
                    evaluation.costliest,
                    out,
                    rows=rows,
                    on_warning=messages.print,
                )
        except OSError as error:
            raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    if json:
        typer.echo(evaluation.to_json())
    else:
        Console(highlight=False).print(draw_evaluation(evaluation))
