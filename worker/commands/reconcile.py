"""`fundus reconcile`: what every worker does by itself, for when none is there."""

import json as jsons
import time
from dataclasses import asdict
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console

from worker.core.messaging.broker import make_celery
from worker.core.settings import read_settings
from worker.ledger.database import connect
from worker.ledger.migrate import require_compatible
from worker.maintenance.reconciler import reconcile

app = typer.Typer()


@app.command(name="reconcile")
def reconcile_now(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send again what was lost, quarantine what kills workers, finish what nobody finished. One pass, for cron.

    Every worker does this by itself.
    Where workers are started only when messages wait, it brings back
    what a broker has lost while there was none.

    Examples:
    $ fundus reconcile
    """
    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    celery, holder = make_celery(settings), str(uuid4())
    done = reconcile(engine, celery, settings, holder=holder)
    if done is not None:
        # The first turn of a new holder only takes the lock; see there.
        time.sleep(settings.reconcile_every_s)
        done = reconcile(engine, celery, settings, holder=holder)
    document = {"elsewhere": done is None} | ({} if done is None else asdict(done))
    if json:
        typer.echo(jsons.dumps(document))
    elif done is None:
        Console(highlight=False).print("a worker does it")
    else:
        Console(highlight=False).print(", ".join(f"{name} {count:,}" for name, count in asdict(done).items()))
