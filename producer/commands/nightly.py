"""`fundus nightly`: enqueue new and changed images."""

from dataclasses import asdict
from typing import Annotated

import typer

from producer.runs.nightly import NightRequest, NightResult, run_night
from producer.views.status import draw_progress
from producer.views.watch import watch_run
from worker.core.errors import UsageError
from worker.core.local_date import local_date
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, print_note, stdout_console
from worker.core.vocabulary import Precision
from worker.ledger.migrate import open_ledger
from worker.ledger.status import describe_progress

app = typer.Typer()


@app.command()
def nightly(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Source, as for `fundus enqueue`.", show_default="FUNDUS_NIGHTLY_SOURCE"),
    ] = None,
    *,
    programme: Annotated[
        str | None, typer.Option(metavar="NAME", help="Screening programme.", show_default="FUNDUS_NIGHTLY_PROGRAMME")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Skip images modified before this date, or `last`: a day before the newest known."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Id of the model that must grade the night.", show_default="FUNDUS_NIGHTLY_MODEL"
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Only workers that compute in this precision grade the night.",
            show_default="FUNDUS_NIGHTLY_PRECISION",
        ),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Site where the photographs were taken.", show_default="FUNDUS_NIGHTLY_SITE"),
    ] = None,
    require_accepted: Annotated[
        bool | None,
        typer.Option(
            "--require-accepted/--no-require-accepted",
            help="Refuse the night unless its model is accepted at the site; without --model, the site's only accepted"
            " one grades it.",
            show_default="FUNDUS_NIGHTLY_REQUIRE_ACCEPTED",
        ),
    ] = None,
    allow_column: Annotated[
        list[str] | None, typer.Option(help="Accept a column whose name looks personal. Repeatable.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it is finished.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Enqueue images that are new or changed since the programme's earlier nights.

    The run is named PROGRAMME-YYYY-MM-DD, by the date in FUNDUS_TIME_ZONE. Changes are detected by ETag.
    Images of missed and interrupted nights are included.

    Exit status for cron:
    0: success, also if nothing is new;
    1: a service failed, run the command again;
    2: invalid settings or arguments, or a model that the site has not accepted, correct them;
    3: another process is enqueueing this night.

    Examples:
    $ fundus nightly s3://clinic/inbox/
    $ fundus nightly s3://clinic/archive/ --programme archive --since 2026-11-01
    $ fundus nightly dicomweb://pacs
    $ fundus nightly /photos/inbox --watch && fundus close-nights
    $ fundus nightly s3://clinic-a/inbox/ --programme clinic-a --site clinic-a --require-accepted
    """
    settings = read_settings()
    nightly_source = source or settings.nightly_source
    if nightly_source is None:
        raise UsageError("name a source or set FUNDUS_NIGHTLY_SOURCE")
    warnings: list[str] = []
    request = NightRequest(
        nightly_source,
        local_date(settings.time_zone),
        programme,
        since,
        model,
        precision,
        tuple(allow_column or ()),
        site,
        require_accepted,
    )
    result = run_night(settings, request, on_warning=warnings.append)
    for warning in warnings:
        print_note(warning)
    document = asdict(result) | {"remarks": warnings}
    if not json:
        _print_result(result)
    if watch:
        last = watch_run(open_ledger(settings), result.run)
        document |= describe_progress(last)
        if not json:
            stdout_console().print(draw_progress(last))
    if json:
        print_json(document)


def _print_result(result: NightResult) -> None:
    if result.missed:
        print_note(f"{result.missed} nights before this one were missed; their images are in this one")
    for run in result.sealed:
        print_note(f"{run} was interrupted; it is sealed now, and the images it missed are in this one")
    older = f", {result.older:,} too old" if result.older else ""
    stdout_console().print(
        f"{result.run}: {result.found:,} found, {result.new:,} new{older}, {result.messages:,} messages"
    )
