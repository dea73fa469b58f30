"""`fundus nightly`: enqueue what no earlier night has had."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from producer.ledger import open_ledger
from producer.nightly import enqueue_nightly
from producer.screen import answers, print_json, print_note
from producer.sources.door import make_door
from worker.contract.errors import UsageError
from worker.contract.queues import make_celery
from worker.contract.settings import read_settings
from worker.contract.storage import Storage

app = typer.Typer()


@app.command()
def nightly(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="As for `fundus enqueue`; without it, FUNDUS_NIGHTLY_SOURCE."),
    ] = None,
    *,
    allow_column: Annotated[
        list[str] | None, typer.Option(help="A column that looks personal and is not; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fill the run nightly-YYYY-MM-DD (in UTC) with what the source holds and no earlier nightly run has had.

    Examples:
    $ fundus nightly s3://clinic/inbox/
    $ FUNDUS_NIGHTLY_SOURCE=/photos/inbox fundus nightly
    """
    settings = read_settings()
    chosen = source or settings.nightly_source
    if chosen is None:
        raise UsageError("name a source, or set FUNDUS_NIGHTLY_SOURCE")
    remarks: list[str] = []
    done = enqueue_nightly(
        open_ledger(settings),
        make_celery(settings),
        Storage(settings),
        settings,
        chosen,
        datetime.now(UTC).date(),
        door=make_door(settings, allow_column or ()),
        remark=remarks.append,
    )
    for remark in remarks:
        print_note(remark)
    if json:
        print_json(asdict(done) | {"remarks": remarks})
    else:
        answers().print(f"{done.run}: {done.found:,} found, {done.new:,} new, {done.messages:,} messages")
