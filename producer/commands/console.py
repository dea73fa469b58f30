"""`fundus console`: serve the review console and manage its users."""

import typer

from producer.lazy_commands import LazyCommand, LazyGroup


class ConsoleGroup(LazyGroup):
    """The commands of the extra `console`."""

    lazy_commands = (
        LazyCommand("serve", "worker.console.commands.serve", "Serve the review console."),
        LazyCommand("user", "worker.console.commands.user", "Manage the users of the review console."),
    )


app = typer.Typer(
    cls=ConsoleGroup,
    help="Serve the review console and manage its users.",
    rich_markup_mode="rich",
    no_args_is_help=True,
)


@app.callback()
def console() -> None:
    """Serve the review console and manage its users."""
