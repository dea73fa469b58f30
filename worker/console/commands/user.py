"""`fundus console user`: who may use the review console."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from worker.console import accounts
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import answers, print_json
from worker.core.vocabulary import Role
from worker.ledger.migrate import open_ledger

app = typer.Typer(help="Say who may use the review console.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]
RoleOption = Annotated[Role, typer.Option(help="A viewer looks, a grader decides, an operator sets how runs are read.")]


@app.command()
def add(name: Name, *, role: RoleOption = Role.VIEWER) -> None:
    """Let somebody in. The password is asked for, or read from standard input; never give it as an argument.

    Examples:
    $ fundus console user add anna --role grader
    $ pass show fundus/anna | fundus console user add anna --role grader
    """
    accounts.add_user(open_ledger(read_settings()), name, role, _password())
    answers().print(f"{name} may sign in as {role}", markup=False)


@app.command()
def password(name: Name) -> None:
    """Give a user another password; whoever is signed in by that name is signed out.

    Examples:
    $ fundus console user password anna
    """
    accounts.set_password(open_ledger(read_settings()), name, _password())
    answers().print(f"{name} has a new password", markup=False)


@app.command(name="role")
def change_role(name: Name, role: Annotated[Role, typer.Argument(help="The new role.")]) -> None:
    """Give a user another role.

    Examples:
    $ fundus console user role anna operator
    """
    accounts.set_role(open_ledger(read_settings()), name, role)
    answers().print(f"{name} is {role} now", markup=False)


@app.command()
def disable(name: Name) -> None:
    """Let a user in no more, from this moment. What the user decided stays.

    Examples:
    $ fundus console user disable anna
    """
    accounts.disable_user(open_ledger(read_settings()), name)
    answers().print(f"{name} is disabled", markup=False)


@app.command()
def enable(name: Name) -> None:
    """Let a disabled user in again.

    Examples:
    $ fundus console user enable anna
    """
    accounts.enable_user(open_ledger(read_settings()), name)
    answers().print(f"{name} is enabled", markup=False)


@app.command(name="list")
def list_users(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show the users and their roles.

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
    answers().print(table if found else "No users yet. Begin with: fundus console user add NAME --role grader")


def _password() -> str:
    if sys.stdin.isatty():
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return given
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError("no password on standard input")
    return line


def _described(user: accounts.User) -> dict[str, object]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in asdict(user).items()}
