"""`fundus worker`: run a Celery worker with a thread pool and the settings of the project."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from worker.consumer.worker_processes import run_processes, share_of
from worker.core.machine import has_worker_packages
from worker.core.settings import PREFIX, EngineName, Settings, parse_settings, read_settings
from worker.core.telemetry.heartbeat import runtime_folder
from worker.core.telemetry.log_setup import configure_logs
from worker.core.telemetry.worker_number import claim_worker_number

PROGRAM = (sys.executable, "-P", "-m", "producer", "worker")
"""The program of each of several worker processes."""

app = typer.Typer()


@app.command()
def worker(
    engine: Annotated[EngineName | None, typer.Option(help="Inference engine.")] = None,
    queues: Annotated[str | None, typer.Option(help="Queues to consume, comma-separated.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Bulk chunks in flight.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name in Flower; unique on this machine.", show_default="fundus-1, fundus-2, ...")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Worker processes on this device, which share cores and memory.")
    ] = 1,
) -> None:
    """Run a worker that grades the images on the queues.

    On Ctrl-C or SIGTERM it finishes the chunks in flight and exits. Several processes feed a GPU that is faster than
    one; each has a heartbeat and connections of its own. One that dies at work is replaced.

    Examples:
    $ fundus worker
    $ fundus worker --queues live --concurrency 2
    $ fundus worker --processes 4
    """
    if not has_worker_packages():
        raise ModuleNotFoundError("No module named 'keras'", name="keras")
    # The Celery application reads its settings from the environment, as with `celery worker`.
    for variable, value in (("ENGINE", engine), ("QUEUES", queues), ("CONCURRENCY", concurrency)):
        if value is not None:
            os.environ[PREFIX + variable] = str(value)
    settings = parse_settings()
    name = name or f"fundus-{claim_worker_number(runtime_folder())}"
    if processes > 1:
        raise typer.Exit(_run_several(processes, name, settings))
    read_settings.cache_clear()
    from celery.utils.nodenames import default_nodename, host_format

    from worker.app import app as celery

    settings = read_settings()
    node = celery.Worker(
        hostname=host_format(default_nodename(f"{name}@%h")),
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


def _run_several(count: int, name: str, settings: Settings) -> int:
    """Run worker processes that share the decoding processes, their memory and the ports from the metrics port on."""
    configure_logs(settings.log_format, settings.log_level)

    def start(number: int) -> "subprocess.Popen[bytes]":
        # The largest image must fit into the share of one process.
        least_mb = min(settings.decode_memory_mb, settings.decode_budget_mb)
        shares = {
            "DECODE_PROCESSES": share_of(settings.decode_processes, count, number),
            "DECODE_BUDGET_MB": max(least_mb, share_of(settings.decode_budget_mb, count, number)),
            "METRICS_PORT": None if settings.metrics_port is None else settings.metrics_port + number,
        }
        own = {PREFIX + variable: str(value) for variable, value in shares.items() if value is not None}
        command = [*PROGRAM, "--name", f"{name}-{number}"]
        # A group of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
        return subprocess.Popen(command, env={**os.environ, **own}, process_group=0)  # noqa: S603 - this program

    return run_processes(count, start)
