"""`fundus retention`: delete what is too old."""

from dataclasses import asdict
from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json, print_note
from worker.ledger.retention import run_retention

app = typer.Typer()


@app.command()
def retention(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Delete overlays and outcomes that are older than FUNDUS_RETAIN_OVERLAYS_DAYS and FUNDUS_RETAIN_ROWS_DAYS.

    With a run's overlays goes its report in FUNDUS_REPORTS_DIR.
    With an image's last outcome goes its reference and patient id.
    Runs under `fundus hold` are passed over, and the audit trail stays.
    Killed in the middle, the next call goes on.

    Examples:
    $ FUNDUS_RETAIN_OVERLAYS_DAYS=90 FUNDUS_RETAIN_ROWS_DAYS=3650 fundus retention --dry-run
    $ fundus retention --json
    """
    settings = read_settings()
    if settings.retain_overlays_days is None and settings.retain_rows_days is None:
        print_note("retention is off: set FUNDUS_RETAIN_OVERLAYS_DAYS or FUNDUS_RETAIN_ROWS_DAYS")
    done = run_retention(settings, dry_run=dry_run)
    if json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    words = "would go" if dry_run else "deleted"
    answers().print(f"{words}: {done.overlays:,} overlays, {done.rows:,} outcomes, {done.images:,} images")
    for run in done.held:
        print_note(f"run {run} is old enough, and held")
