"""`fundus exporter`: serve metrics of ledger, broker and disks for Prometheus."""

import signal
import threading
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from producer.exporter.disk_metrics import DiskCollector, parse_disks
from producer.exporter.ledger_metrics import LedgerCollector
from worker.core.errors import FundusError, UsageError
from worker.core.messaging.broker import make_celery, queue_depth
from worker.core.settings import read_settings
from worker.core.terminal.output import print_error, print_note
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command()
def exporter(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9808,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    disk: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Disk to measure, by a folder on it. Repeatable."),
    ] = None,
) -> None:
    """Serve metrics for Prometheus until stopped. No metric names a run, an image or a person.

    Examples:
    $ fundus exporter
    $ fundus exporter --disk ledger=/var/lib/postgresql --disk store=/srv/fundus
    $ fundus exporter --host 0.0.0.0 --port 9808
    """
    settings = read_settings()
    disks = parse_disks(disk or ())
    celery = make_celery(settings)
    registry = CollectorRegistry()

    def print_failure(error: FundusError) -> None:
        print_error(error.code, error.detail)

    registry.register(
        LedgerCollector(
            open_ledger(settings),
            lambda queue: queue_depth(celery, queue),
            print_failure,
            expects_retention=settings.expects_retention,
        )
    )
    registry.register(DiskCollector(disks, print_failure))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    print_note(f"metrics on http://{host}:{port}/metrics")
    stopped.wait()
    server.shutdown()
