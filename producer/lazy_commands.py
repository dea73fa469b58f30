"""Command groups that list their commands without importing them."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

COMPLETION = ("install_completion", "show_completion")


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command as the help of its group lists it; `module` defines the Typer application `app`."""

    name: str
    module: str
    summary: str
    panel: str | None = None


class LazyGroup(TyperGroup):
    """A group that imports the module of a command when the command is called or its help is shown.

    Subclasses set `lazy_commands`.
    """

    lazy_commands: ClassVar[tuple[LazyCommand, ...]] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for lazy in self.lazy_commands:
            self.commands[lazy.name] = TyperCommand(lazy.name, help=lazy.summary, rich_help_panel=lazy.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the imported command and its arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(next(lazy for lazy in self.lazy_commands if lazy.name == name)), rest


def _load(lazy: LazyCommand) -> Any:
    command = typer.main.get_command(import_module(lazy.module).app)
    command.name = lazy.name
    # Only `fundus` itself offers to install completion.
    command.params = [param for param in command.params if param.name not in COMPLETION]
    return command
