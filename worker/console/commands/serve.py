"""`fundus console serve`: the review console."""

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from worker.console.app import make_app
from worker.console.origin import make_origin
from worker.console.server import SERVER_OPTIONS, check_port
from worker.core.errors import UsageError
from worker.core.process_hardening import forbid_inspection
from worker.core.settings import read_settings
from worker.core.telemetry.log_setup import configure_logs
from worker.core.terminal.output import print_note
from worker.ledger.database import connect
from worker.ledger.database_tls import warn_of_unverified_host
from worker.ledger.migrate import require_compatible

CONNECTIONS = 20

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8080,
    *,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of the TLS certificate, if no proxy adds TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the private key of --certificate.")] = None,
    proxy: Annotated[
        str | None, typer.Option(help="Address of the reverse proxy whose X-Forwarded headers are trusted.")
    ] = None,
) -> None:
    """Serve the review console until stopped. Users sign in with accounts from `fundus console user add`.

    To serve on an address other than loopback, set FUNDUS_CONSOLE_URL to the https address that users open.

    Examples:
    $ fundus console serve
    $ FUNDUS_CONSOLE_URL=https://grading.example.org fundus console serve --host 0.0.0.0 --proxy 10.0.0.2
    """
    settings = read_settings()
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key must be given together")
    origin = make_origin(settings, host, port)
    configure_logs(settings.log_format, settings.log_level)
    forbid_inspection()
    engine = connect(settings, pool_size=CONNECTIONS)
    require_compatible(engine)
    warn_of_unverified_host(engine)
    check_port(host, port)
    print_note(f"console listening on {settings.console_url or f'http://{host}:{port}'}")
    uvicorn.run(
        make_app(settings, engine, origin),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        **SERVER_OPTIONS,
    )
