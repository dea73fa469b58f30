"""`fundus db`: migrate the database schema."""

from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.database import connect
from worker.ledger.migrate import read_schema_state, upgrade

app = typer.Typer(help="Migrate the database schema.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(name="upgrade")
def upgrade_database(*, json: Json = False) -> None:
    """Apply the missing migrations; an empty database gets all tables. Idempotent, also when run concurrently.

    Examples:
    $ fundus db upgrade
    $ FUNDUS_DATABASE_URL=postgresql://fundus@db/fundus fundus db upgrade
    """
    engine = connect(read_settings())
    before = read_schema_state(engine).revision
    upgrade(engine)
    revision = read_schema_state(engine).revision
    if json:
        print_json({"before": before, "level": revision})
    else:
        change = ", as before" if before == revision else f" (before: {before or 'empty'})"
        stdout_console().print(f"schema revision {revision}{change}")


@app.command()
def current(*, json: Json = False) -> None:
    """Show the schema revision of the database and the one that this version needs.

    The exit status is 1 if this version cannot use the database. A newer schema is usable if it is compatible.

    Examples:
    $ fundus db current
    """
    schema = read_schema_state(connect(read_settings()))
    if json:
        print_json({"level": schema.revision, "needed": schema.required, "served": schema.is_compatible})
    else:
        newer = "newer but compatible, " if schema.is_newer and schema.is_compatible else ""
        stdout_console().print(
            f"schema revision {schema.revision or 'empty'}, {newer}this version needs {schema.required}"
        )
    if not schema.is_compatible:
        raise typer.Exit(1)
