"""`fundus retention`: delete expired overlays and outcomes."""

from dataclasses import asdict
from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, print_note, stdout_console
from worker.ledger.retention import run_retention

app = typer.Typer()


@app.command()
def retention(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, but delete nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Delete overlays and outcomes that are older than FUNDUS_RETAIN_OVERLAYS_DAYS and FUNDUS_RETAIN_ROWS_DAYS.

    The reasons that readers wrote are erased after FUNDUS_RETAIN_REASONS_DAYS; the decisions are kept.
    Records of who viewed a photograph in the console are deleted after FUNDUS_RETAIN_VIEWS_DAYS.
    Objects of ended runs that the ledger does not know and that are older than a day are deleted.
    A run's report in FUNDUS_REPORTS_DIR is deleted with its overlays.
    An image's reference and patient id are deleted with its last outcome.
    Runs under `fundus hold` are skipped. The audit log is kept.
    An interrupted call is completed by the next one.

    Examples:
    $ fundus retention --dry-run
    $ FUNDUS_RETAIN_OVERLAYS_DAYS=90 fundus retention --json
    """
    settings = read_settings()
    if not settings.expects_retention:
        print_note("outcomes are kept: set FUNDUS_RETAIN_OVERLAYS_DAYS or FUNDUS_RETAIN_ROWS_DAYS")
    done = run_retention(settings, dry_run=dry_run)
    if json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    verb = "would be deleted" if dry_run else "deleted"
    stdout_console().print(
        f"{verb}: {done.overlays:,} overlays, {done.rows:,} outcomes, {done.images:,} images, {done.reasons:,} reasons,"
        f" {done.views:,} views, {done.orphans:,} objects that no outcome refers to"
    )
    for run in done.held:
        print_note(f"run {run} has expired but is held")
