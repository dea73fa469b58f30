"""`fundus export`: write one row per image, or one FHIR transaction per study, to a file."""

from pathlib import Path
from typing import Annotated

import typer

from worker.core.fhir.resources import Publisher
from worker.core.settings import read_settings
from worker.core.storage.storage import Storage
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat, choose_format
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import find_run

app = typer.Typer()


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    out: Annotated[
        Path, typer.Option(help="File to write: .csv, .jsonl or .parquet. An existing one is replaced atomically.")
    ],
    fmt: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format",
            help="File format. parquet needs the extra `worker`, fhir needs FUNDUS_FHIR_SYSTEM.",
            show_default="by the name",
        ),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write grade, outputs, overlay and error of every image of a run to a file, ordered by image id.

    The format fhir has one line for each study, a transaction of FHIR R4 with the outcome of each eye.

    Examples:
    $ fundus export night-1 --out night-1.csv
    $ fundus export night-1 --out night-1.parquet
    $ fundus export night-1 --out night-1.ndjson     # FHIR
    """
    fmt = choose_format(out, fmt)
    settings = read_settings()
    engine = open_ledger(settings)
    found = find_run(engine, run)
    publisher = Publisher(settings.fhir_system) if settings.fhir_system else None
    rows = export_run(engine, Storage(settings).overlays, found, fmt, out, publisher)
    if json:
        print_json({"run": found.name, "rows": rows, "format": fmt, "out": str(out)})
    else:
        stdout_console().print(f"{rows:,} rows in {out}", soft_wrap=True, markup=False)
