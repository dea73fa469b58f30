"""`fundus worker`: run a Celery worker with a thread pool and the settings of the project."""

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from worker.core.settings import PREFIX, EngineName, parse_settings, read_settings

app = typer.Typer()


@app.command()
def worker(
    engine: Annotated[EngineName | None, typer.Option(help="Inference engine.")] = None,
    queues: Annotated[str | None, typer.Option(help="Queues to consume, comma-separated.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Bulk chunks in flight.")] = None,
    name: Annotated[str | None, typer.Option(help="Name in Flower; unique on this machine.")] = None,
) -> None:
    """Run a worker that grades the images on the queues.

    On Ctrl-C or SIGTERM it finishes the chunks in flight and exits.

    Examples:
    $ fundus worker
    $ fundus worker --queues live --concurrency 2
    """
    if find_spec("tensorflow") is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    # The Celery application reads its settings from the environment, as with `celery worker`.
    for variable, value in (("ENGINE", engine), ("QUEUES", queues), ("CONCURRENCY", concurrency)):
        if value is not None:
            os.environ[PREFIX + variable] = str(value)
    parse_settings()
    read_settings.cache_clear()
    from celery.utils.nodenames import default_nodename, host_format

    from worker.app import app as celery

    settings = read_settings()
    node = celery.Worker(
        hostname=host_format(default_nodename(f"{name or f'fundus-{os.getpid()}'}@%h")),
        pool="threads",
        concurrency=settings.concurrency,
        loglevel=settings.log_level.upper(),
        quiet=True,
        # Workers coordinate through the ledger; gossip and mingle would only delay the start by a second.
        without_gossip=True,
        without_mingle=True,
    )
    node.start()
    raise typer.Exit(node.exitcode or 0)
