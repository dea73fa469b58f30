"""`fundus resend`: send images of a run again."""

from typing import Annotated

import typer

from producer.runs.resend import resend
from worker.core.messaging.broker import make_celery
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.core.vocabulary import Status
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command(name="resend")
def resend_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    *,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Requeue images that were quarantined after crashing workers.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Requeue images that failed.")] = False,
    ungradable: Annotated[bool, typer.Option("--ungradable", help="Requeue ungradable images.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Resend the queued images of a run that no worker is processing.

    The options requeue images that already have an outcome: the outcome is deleted and they are graded again.
    Workers resend lost messages automatically; this command does it immediately.

    Examples:
    $ fundus resend night-1
    $ fundus resend night-1 --quarantined --failed
    """
    settings = read_settings()
    wanted = {Status.QUARANTINED: quarantined, Status.FAILED: failed, Status.UNGRADABLE: ungradable}
    requeue = [status for status, is_wanted in wanted.items() if is_wanted]
    result = resend(open_ledger(settings), make_celery(settings), settings, run, requeue)
    if json:
        print_json(
            {
                "run": result.run,
                "waiting": result.waiting,
                "lifted": result.requeued,
                "messages": result.messages,
            }
        )
    else:
        images = f"{result.waiting:,} queued and {result.requeued:,} requeued images"
        stdout_console().print(f"{result.run}: {images} sent in {result.messages:,} messages")
