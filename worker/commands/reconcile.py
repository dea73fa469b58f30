"""`fundus reconcile`: one pass of the reconciler, for deployments that start workers on demand."""

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
    """Requeue lost images, quarantine images that crash workers, finish runs without queued images.

    Workers do this automatically while they run.
    If workers are started on demand, schedule this command with cron:
    it also recovers messages that the broker lost while no worker ran.

    Examples:
    $ fundus reconcile
    """
    settings = read_settings()
    engine = connect(settings)
    require_compatible(engine)
    celery, holder = make_celery(settings), str(uuid4())
    done = reconcile(engine, celery, settings, holder=holder)
    if done is not None:
        # The first pass of a new holder only acquires the lock, see `reconcile`.
        time.sleep(settings.reconcile_every_s)
        done = reconcile(engine, celery, settings, holder=holder)
    document = {"elsewhere": done is None} | ({} if done is None else asdict(done))
    if json:
        typer.echo(jsons.dumps(document))
    elif done is None:
        Console(highlight=False).print("skipped: another process holds the reconciler lock")
    else:
        Console(highlight=False).print(", ".join(f"{name} {count:,}" for name, count in asdict(done).items()))
