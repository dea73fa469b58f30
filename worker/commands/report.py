"""`fundus report`: write the HTML report of a run."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import Engine

from worker.core.errors import StorageError, UsageError
from worker.core.settings import Settings, read_settings
from worker.core.storage.keys import report_prefix
from worker.core.storage.storage import Storage
from worker.core.terminal.output import stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import connect, write_transaction
from worker.ledger.migrate import require_compatible
from worker.ledger.report_leases import request_report
from worker.report.destination import Destination, folder_destination
from worker.report.job import write_under_lease
from worker.report.patients import read_next_steps
from worker.report.presigned_links import link_report
from worker.report.summary import find_reported_run
from worker.report.writer import ReportOptions, write_report

app = typer.Typer()
OPEN_S = 3600


@app.command()
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run to report.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: next to the run's overlays in the store.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Baseline run, whose grades are shown for comparison.")] = None,
    next_steps: Annotated[
        Path | None, typer.Option(help="JSON object with a sentence for each of `0` to `4`, `attention`, `reading`.")
    ] = None,
    *,
    pictures: Annotated[bool, typer.Option(help="Show photographs and overlays.")] = True,
    all_pictures: Annotated[
        bool,
        typer.Option("--all-pictures", help="Also show images that are not referable if the run has more than 2,000."),
    ] = False,
    link: Annotated[
        int | None,
        typer.Option(
            min=1, max=168, help="Print a link to the stored report, valid for this number of hours, and write nothing."
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Write the report of a run: patients by urgency, galleries by grade, and tables. It can be read offline.

    Workers write a report next to the overlays when a run finishes. This command writes it again, also for an
    unfinished run.

    Examples:
    $ fundus report night-1 --open
    $ fundus report night-1 --link 12
    $ fundus report night-1 --out /srv/reports/night-1 --baseline night-0 --next-steps steps.json
    """
    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    stored = Destination(Storage(settings).overlays, report_prefix(run))
    if link is not None:
        find_reported_run(engine, run)
        with write_transaction(engine) as connection:
            record_action(connection, AuditAction.EXPORT, run=run, format="report", link_hours=link)
        address = link_report(stored, seconds=link * 3600)
        Console(highlight=False).print(address, soft_wrap=True, markup=False)
        return
    options = ReportOptions(
        baseline=baseline or settings.report_baseline,
        next_steps=read_next_steps(next_steps or settings.report_next_steps),
        all_pictures=all_pictures,
        pictures=pictures,
    )
    address = _write(engine, settings, run, out, options)
    Console(highlight=False).print(address, soft_wrap=True, markup=False)
    if open_it:
        webbrowser.open(link_report(stored, seconds=OPEN_S) if address.startswith("s3:") else address)


def _write(engine: Engine, settings: Settings, run: str, out: Path | None, options: ReportOptions) -> str:
    messages = stderr_console()
    with progress_bar(messages) as progress:
        task = progress.add_task("writing", total=None)
        warnings = 0

        def on_warning(sentence: str) -> None:
            nonlocal warnings
            warnings += 1
            progress.update(task, errors=f"{warnings:,} warnings")
            messages.print(sentence, soft_wrap=True, markup=False)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if out is None:
            lease = request_report(engine, run, lease_s=settings.lease_s)
            return write_under_lease(engine, settings, lease, options, on_warning=on_warning, on_progress=on_progress)
        with write_transaction(engine) as connection:
            # Record the export first: an aborted report may already contain data.
            record_action(connection, AuditAction.EXPORT, run=run, format="report", out=str(out.absolute()))
        try:
            return write_report(
                engine,
                settings,
                run,
                folder_destination(out.absolute()),
                options,
                on_warning=on_warning,
                on_progress=on_progress,
            )
        except StorageError as error:
            # Errors of image sources are warnings, so this error is about the output folder.
            raise UsageError(error.detail) from error
