"""`fundus console user`: manage the accounts of the review console."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from worker.console import accounts
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.core.vocabulary import Role
from worker.ledger.migrate import open_ledger

app = typer.Typer(help="Manage the users of the review console.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]
RoleOption = Annotated[
    Role, typer.Option(help="viewer: read-only; grader: reviews images; operator: sets the number of readers of a run.")
]


@app.command()
def add(name: Name, *, role: RoleOption = Role.VIEWER) -> None:
    """Add a user. The password is prompted for, or read from standard input.

    Examples:
    $ fundus console user add anna --role grader
    $ pass show fundus/anna | fundus console user add anna --role grader
    """
    accounts.add_user(open_ledger(read_settings()), name, role, _password())
    stdout_console().print(f"added user {name} with the role {role}", markup=False)


@app.command()
def password(name: Name) -> None:
    """Change the password of a user and end their sessions.

    Examples:
    $ fundus console user password anna
    """
    accounts.set_password(open_ledger(read_settings()), name, _password())
    stdout_console().print(f"changed the password of {name}", markup=False)


@app.command(name="role")
def change_role(name: Name, role: Annotated[Role, typer.Argument(help="The new role.")]) -> None:
    """Change the role of a user and end their sessions.

    Examples:
    $ fundus console user role anna operator
    """
    accounts.set_role(open_ledger(read_settings()), name, role)
    stdout_console().print(f"{name} now has the role {role}", markup=False)


@app.command()
def disable(name: Name) -> None:
    """Disable a user and end their sessions. Their decisions are kept.

    Examples:
    $ fundus console user disable anna
    """
    accounts.disable_user(open_ledger(read_settings()), name)
    stdout_console().print(f"disabled {name}", markup=False)


@app.command()
def enable(name: Name) -> None:
    """Enable a disabled user.

    Examples:
    $ fundus console user enable anna
    """
    accounts.enable_user(open_ledger(read_settings()), name)
    stdout_console().print(f"enabled {name}", markup=False)


@app.command(name="list")
def list_users(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """List users and their roles.

    Examples:
    $ fundus console user list
    """
    found = accounts.list_users(open_ledger(read_settings()))
    if json:
        print_json({"users": [_described(user) for user in found]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("name", "role", "since", "state"):
        table.add_column(column)
    for user in found:
        table.add_row(user.name, user.role, f"{user.created_at:%Y-%m-%d}", "disabled" if user.disabled_at else "")
    stdout_console().print(table if found else "No users yet. Add one with: fundus console user add NAME --role grader")


def _password() -> str:
    if sys.stdin.isatty():
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return given
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError("standard input contains no password")
    return line


def _described(user: accounts.User) -> dict[str, object]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in asdict(user).items()}
