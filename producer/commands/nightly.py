"""`fundus nightly`: enqueue what is new since the earlier nights."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from producer.runs.nightly import NightDone, NightRequest, run_night
from producer.views.status import draw_progress
from producer.views.watch import watch_run
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json, print_note
from worker.ledger.migrate import open_ledger
from worker.ledger.status import describe_progress

app = typer.Typer()


@app.command()
def nightly(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="As for `fundus enqueue`; without it, FUNDUS_NIGHTLY_SOURCE."),
    ] = None,
    *,
    programme: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose night; without it, FUNDUS_NIGHTLY_PROGRAMME.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Leave out what is older: a date, or `last`, a day before the newest known."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The only model that may grade the night; without it, FUNDUS_NIGHTLY_MODEL."),
    ] = None,
    allow_column: Annotated[
        list[str] | None, typer.Option(help="A column that looks personal and is not; may be repeated.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it is over.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fill the run PROGRAMME-YYYY-MM-DD (in UTC) with what is new or has changed since the programme's earlier nights.

    Nights that were missed or broke off are caught up with.

    Exit status for cron:
    0 done, also when nothing is new
    1 a service failed; the same command goes on
    2 a person must mend something
    3 another one is at work

    Examples:
    $ fundus nightly s3://clinic/inbox/
    $ fundus nightly s3://clinic/archive/ --programme archive --since 2026-11-01
    $ fundus nightly /photos/inbox --watch && fundus close-nights
    """
    settings = read_settings()
    chosen = source or settings.nightly_source
    if chosen is None:
        raise UsageError("name a source, or set FUNDUS_NIGHTLY_SOURCE")
    warnings: list[str] = []
    request = NightRequest(chosen, datetime.now(UTC).date(), programme, since, model, tuple(allow_column or ()))
    done = run_night(settings, request, on_warning=warnings.append)
    for warning in warnings:
        print_note(warning)
    document = asdict(done) | {"remarks": warnings}
    if not json:
        _print_done(done)
    if watch:
        last = watch_run(open_ledger(settings), done.run)
        document |= describe_progress(last)
        if not json:
            answers().print(draw_progress(last))
    if json:
        print_json(document)


def _print_done(done: NightDone) -> None:
    if done.missed:
        print_note(f"{done.missed} nights before this one were missed; what came then is in this one")
    for run in done.sealed:
        print_note(f"{run} had broken off; it is sealed now, and what it missed is in this one")
    older = f", {done.older:,} too old" if done.older else ""
    answers().print(f"{done.run}: {done.found:,} found, {done.new:,} new{older}, {done.messages:,} messages")
