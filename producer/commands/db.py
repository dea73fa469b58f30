"""`fundus db`: bring the database to this version's level."""

from typing import Annotated

import typer

from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json
from worker.ledger.database import connect
from worker.ledger.migrate import read_levels, upgrade

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
    before = read_levels(engine).ledger
    upgrade(engine)
    level = read_levels(engine).ledger
    if json:
        print_json({"before": before, "level": level})
    else:
        answers().print(f"level {level}" + (", as before" if before == level else f" (before: {before or 'empty'})"))


@app.command()
def current(*, json: Json = False) -> None:
    """Show the database's level and this version's. Exit 1 when this version may not use the database.

    It may use one that a newer version has upgraded, unless that took away what this one needs.

    Examples:
    $ fundus db current
    """
    levels = read_levels(connect(read_settings()))
    if json:
        print_json({"level": levels.ledger, "needed": levels.program, "served": levels.is_served})
    else:
        open_to_it = "newer and open to it, " if levels.is_newer and levels.is_served else ""
        answers().print(f"level {levels.ledger or 'empty'}, {open_to_it}this version needs {levels.program}")
    if not levels.is_served:
        raise typer.Exit(1)
