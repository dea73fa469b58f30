"""`fundus db`: bring the database to this version's level."""

from typing import Annotated

import typer

from producer.screen import answers, print_json
from worker.contract.database import connect
from worker.contract.migrate import levels, upgrade
from worker.contract.settings import read_settings

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
    before, _ = levels(engine)
    upgrade(engine)
    _, level = levels(engine)
    if json:
        print_json({"before": before, "level": level})
    else:
        answers().print(f"level {level}" + (", as before" if before == level else f" (before: {before or 'empty'})"))


@app.command()
def current(*, json: Json = False) -> None:
    """Show the database's level and the level that this version needs. Exit 1 when they differ.

    Examples:
    $ fundus db current
    """
    level, needed = levels(connect(read_settings()))
    if json:
        print_json({"level": level, "needed": needed})
    else:
        answers().print(f"level {level or 'empty'}, this version needs {needed}")
    if level != needed:
        raise typer.Exit(1)
