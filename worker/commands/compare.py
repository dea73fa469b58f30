"""`fundus compare`: compare two runs image by image."""

import csv
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.evaluation.comparison import Change, Comparison
from worker.evaluation.comparison import compare as compare_runs
from worker.evaluation.comparison_view import draw_comparison
from worker.evaluation.labelled import find_graded_run
from worker.ledger.database import connect
from worker.ledger.migrate import require_compatible

app = typer.Typer()


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="First run.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Second run, of the same images.")],
    out: Annotated[Path | None, typer.Option(help="Output CSV of all images with different outcomes.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all changes.")] = False,
) -> None:
    """Show which grades differ between two runs, and which run is closer to the reference grades.

    Examples:
    $ fundus compare old-model new-model
    $ fundus compare old-model new-model --out changes.csv
    """
    engine = connect(read_settings())
    require_compatible(engine)
    comparison = compare_runs(engine, find_graded_run(engine, first), find_graded_run(engine, second))
    if out is not None:
        _write(comparison, out)
    if json:
        typer.echo(comparison.to_json())
    else:
        Console(highlight=False).print(draw_comparison(comparison))


def _write(comparison: Comparison, out: Path) -> None:
    table = StringIO(newline="")
    writer = csv.DictWriter(table, list(Change.model_fields))
    writer.writeheader()
    writer.writerows(change.model_dump() for change in comparison.changes)
    try:
        write_atomically(out.resolve(), table.getvalue().encode())  # not over a link such as /dev/stdout
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
