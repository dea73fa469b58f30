"""`fundus export`: one row per photograph, to a file."""

from pathlib import Path
from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.storage.storage import Storage
from worker.core.terminal.output import answers, print_json
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import find_run

app = typer.Typer()


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    out: Annotated[Path, typer.Option(help="The file; one that exists is replaced when the new one is whole.")],
    fmt: Annotated[ExportFormat, typer.Option("--format", help="Parquet needs the extra `worker`.")] = ExportFormat.CSV,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write grades, outputs, overlays and errors of every photograph of a run, in the order of their ids.

    Examples:
    $ fundus export night-1 --out night-1.csv
    $ fundus export night-1 --format parquet --out night-1.parquet
    """
    settings = read_settings()
    engine = open_ledger(settings)
    found = find_run(engine, run)
    rows = export_run(engine, Storage(settings).overlays, found, fmt, out)
    if json:
        print_json({"run": found.name, "rows": rows, "format": fmt, "out": str(out)})
    else:
        answers().print(f"{rows:,} rows in {out}", soft_wrap=True, markup=False)
