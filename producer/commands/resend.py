"""`fundus resend`: send photographs of a run again."""

from dataclasses import asdict
from typing import Annotated

import typer

from producer.runs.resend import resend
from worker.core.messaging.broker import make_celery
from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json
from worker.core.vocabulary import Status
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command(name="resend")
def resend_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    *,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Also those that killed workers.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Also those that failed.")] = False,
    ungradable: Annotated[bool, typer.Option("--ungradable", help="Also those that could not be graded.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send what is queued and held by no worker. What an option names is graded afresh: its old outcome is forgotten.

    Workers do the first by themselves; this is for one who will not wait.

    Examples:
    $ fundus resend night-1
    $ fundus resend night-1 --quarantined --failed
    """
    settings = read_settings()
    asked = {Status.QUARANTINED: quarantined, Status.FAILED: failed, Status.UNGRADABLE: ungradable}
    lift = [status for status, wanted in asked.items() if wanted]
    done = resend(open_ledger(settings), make_celery(settings), settings, run, lift)
    if json:
        print_json(asdict(done))
    else:
        answers().print(
            f"{done.run}: {done.waiting:,} waiting and {done.lifted:,} lifted images sent in {done.messages:,} messages"
        )
