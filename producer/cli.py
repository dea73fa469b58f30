"""The command line `fundus`: the list of commands and their common options."""

import os
from importlib import import_module
from typing import Annotated, Any

import typer

from producer.error_reporting import ErrorReportingGroup
from producer.lazy_commands import LazyCommand, LazyGroup
from worker import __version__
from worker.core.terminal.output import print_error

COMMANDS = (
    LazyCommand("enqueue", "producer.commands.enqueue", "Add the images of a source to a run.", "Runs"),
    LazyCommand("status", "producer.commands.status", "Show the state of runs.", "Runs"),
    LazyCommand("export", "producer.commands.export", "Write one row per image to a file.", "Runs"),
    LazyCommand("report", "worker.commands.report", "Write the HTML report of a run.", "Runs"),
    LazyCommand("publish", "worker.commands.publish", "Publish results in the PACS.", "Runs"),
    LazyCommand("evaluate", "worker.commands.evaluate", "Measure agreement with reference grades.", "Runs"),
    LazyCommand("accept", "worker.commands.accept", "Accept or refuse a model for a site.", "Runs"),
    LazyCommand("compare", "worker.commands.compare", "Compare the grades of two runs.", "Runs"),
    LazyCommand("drift", "worker.commands.drift", "Test a run for distribution drift.", "Runs"),
    LazyCommand("resend", "producer.commands.resend", "Send images of a run again.", "Runs"),
    LazyCommand("cancel", "producer.commands.cancel", "Cancel a run.", "Runs"),
    LazyCommand("erase", "producer.commands.erase", "Erase a patient from all runs.", "Runs"),
    LazyCommand("audit", "producer.commands.audit", "Show the audit log.", "Runs"),
    LazyCommand("nightly", "producer.commands.nightly", "Enqueue new and changed images.", "Nights"),
    LazyCommand(
        "close-nights", "worker.commands.close_nights", "Close finished nights: report, drift test, alerts.", "Nights"
    ),
    LazyCommand("retention", "producer.commands.retention", "Delete expired overlays and outcomes.", "Nights"),
    LazyCommand("hold", "producer.commands.hold", "Protect a run from retention.", "Nights"),
    LazyCommand("capacity", "producer.commands.capacity", "Estimate the workers that a night needs.", "Nights"),
    LazyCommand("worker", "worker.commands.worker", "Grade queued images.", "Services"),
    LazyCommand("console", "producer.commands.console", "Serve the review console and manage its users.", "Services"),
    LazyCommand("exporter", "producer.commands.exporter", "Serve metrics for Prometheus.", "Services"),
    LazyCommand("reconcile", "worker.commands.reconcile", "Recover lost images while no worker runs.", "Services"),
    LazyCommand(
        "model", "worker.commands.model", "Import, train, calibrate, audit and combine model bundles.", "Models"
    ),
    LazyCommand("panel", "worker.commands.panel", "Draw images side by side with their overlays.", "Models"),
    LazyCommand("demo", "producer.commands.demo", "Grade sample images on this machine.", "Set-up"),
    LazyCommand("doctor", "producer.commands.doctor", "Check the installation and explain how to fix it.", "Set-up"),
    LazyCommand("db", "producer.commands.db", "Migrate the database schema.", "Set-up"),
)

VERSIONS = (
    ("model", "worker.commands.version", "describe_model"),
    ("ledger", "worker.ledger.migrate", "describe_required_revision"),
)
"""Further versions that `--version` prints. Imported on demand: a producer may lack these packages."""

COMMANDS_WITH_TENSORFLOW_LOG = ("worker", "demo")
"""Commands that log what TensorFlow prints. For the others, it is silenced."""


HELP_OPTIONS = ("-h", "--help")
COMMANDS_THAT_CHECK_SETTINGS = ("doctor",)
"""Commands that report an unknown setting themselves."""


class FundusGroup(ErrorReportingGroup, LazyGroup):
    """The outermost group, `fundus`."""

    lazy_commands = COMMANDS

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command. Raises SettingsError if a setting is misspelt, except where only help is wanted."""
        is_checked = args[0] not in COMMANDS_THAT_CHECK_SETTINGS and not {*HELP_OPTIONS}.intersection(args)
        if is_checked and not ctx.resilient_parsing:
            # Imported here so that `fundus --help` stays fast.
            from worker.core.settings import check_setting_names

            check_setting_names()
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=FundusGroup,
    help="Grade retinal photographs for diabetic retinopathy, in bulk and every night. Not a medical device.",
    epilog="Settings are environment variables named FUNDUS_*. Try it: fundus demo",
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
)


def _print_version(is_wanted: bool) -> None:  # noqa: FBT001 - the framework calls it with the option's value
    if is_wanted:
        typer.echo(f"fundus {__version__}")
        for name, module, function in VERSIONS:
            try:
                typer.echo(f"{name:7}{getattr(import_module(module), function)()}")
            except ModuleNotFoundError as error:
                typer.echo(f"{name:7}unknown here: {error.name} is not installed")
        raise typer.Exit


@app.callback()
def fundus(
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback prints
        bool,
        typer.Option(
            "--version",
            help="Show the versions of program, model and ledger schema.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Common options."""
    if not debug and ctx.invoked_subcommand not in COMMANDS_WITH_TENSORFLOW_LOG:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> int:
    """Run the command line and return the exit status.

    0: success. 1: failure. 2: invalid usage or settings. 3: another process is doing the same. 130: Ctrl-C.
    """
    try:
        status = typer.main.get_command(app).main(prog_name="fundus", standalone_mode=False)
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "fundus")
        if message := error.format_message():  # empty for `fundus` without arguments, which shows its help
            print_error("usage", f"{message.removesuffix('.')} (see `{command} --help`)")
        return error.exit_code
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0
