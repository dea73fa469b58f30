"""`fundus db`: bring the database to this version's level."""

from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json
from worker.ledger.database import connect
from worker.ledger.migrate import read_schema_state, upgrade

app = typer.Typer(help="Bring the database to this version's level.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(name="upgrade")
def upgrade_database(*, json: Json = False) -> None:
    """Apply the migrations that are missing; an empty database gets all tables. Safe to run twice, also at once.

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
        answers().print(f"schema revision {revision}{change}")


@app.command()
def current(*, json: Json = False) -> None:
    """Show the database's level and this version's. Exit 1 when this version may not use the database.

    It may use one that a newer version has upgraded, unless that took away what this one needs.

    Examples:
    $ fundus db current
    """
    schema = read_schema_state(connect(read_settings()))
    if json:
        print_json({"level": schema.revision, "needed": schema.required, "served": schema.is_compatible})
    else:
        newer = "newer but compatible, " if schema.is_newer and schema.is_compatible else ""
        answers().print(f"schema revision {schema.revision or 'empty'}, {newer}this version needs {schema.required}")
    if not schema.is_compatible:
        raise typer.Exit(1)
