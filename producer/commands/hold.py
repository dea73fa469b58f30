"""`fundus hold`: protect a run from retention."""

from dataclasses import asdict
from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.legal_hold import set_legal_hold
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command(name="hold")
def hold_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    *,
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Protect a run from retention until it is released. Deleted overlays and outcomes are not restored.

    Examples:
    $ fundus hold nightly-2026-11-22
    $ fundus hold nightly-2026-11-22 --release
    """
    done = set_legal_hold(open_ledger(read_settings()), run, release=release)
    if json:
        print_json(asdict(done))
        return
    state = "held" if done.held else "not held"
    gone = f", {done.overlays_gone:,} of them without their overlay" if done.overlays_gone else ""
    stdout_console().print(f"{done.run} is {state}: {done.images:,} images{gone}")
