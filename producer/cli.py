"""The command line `fundus`: the list of commands and what they have in common."""

import os
from importlib import import_module
from typing import Annotated

import typer

from producer.error_reporting import ErrorReportingGroup
from producer.lazy_commands import LazyCommand, LazyGroup
from worker import __version__
from worker.core.terminal.output import print_error

COMMANDS = (
    LazyCommand("enqueue", "producer.commands.enqueue", "Add the photographs of a source to a run.", "Runs"),
    LazyCommand("status", "producer.commands.status", "Show where runs stand.", "Runs"),
    LazyCommand("export", "producer.commands.export", "Write one row per photograph to a file.", "Runs"),
    LazyCommand("report", "worker.commands.report", "Write a run as a page for the browser.", "Runs"),
    LazyCommand("evaluate", "worker.commands.evaluate", "Hold a run against reference grades.", "Runs"),
    LazyCommand("compare", "worker.commands.compare", "Hold two runs against each other.", "Runs"),
    LazyCommand("drift", "worker.commands.drift", "Has what comes in changed?", "Runs"),
    LazyCommand("resend", "producer.commands.resend", "Send photographs of a run again.", "Runs"),
    LazyCommand("cancel", "producer.commands.cancel", "Stop a run.", "Runs"),
    LazyCommand("nightly", "producer.commands.nightly", "Enqueue what is new since the earlier nights.", "Nights"),
    LazyCommand("close-nights", "worker.commands.close_nights", "Close nights: drift, report, alarms.", "Nights"),
    LazyCommand("retention", "producer.commands.retention", "Delete overlays and outcomes that are too old.", "Nights"),
    LazyCommand("capacity", "producer.commands.capacity", "Say how many workers a night needs.", "Nights"),
    LazyCommand("hold", "producer.commands.hold", "Keep a run from retention.", "Nights"),
    LazyCommand("reconcile", "worker.commands.reconcile", "Send again what was lost, without a worker.", "Nights"),
    LazyCommand("audit", "producer.commands.audit", "Show who did what, and when.", "Runs"),
    LazyCommand("exporter", "producer.commands.exporter", "Serve metrics for Prometheus.", "Worker"),
    LazyCommand("console", "producer.commands.console", "Serve the review console and manage its users.", "Console"),
    LazyCommand("worker", "worker.commands.worker", "Grade what the queues hold.", "Worker"),
    LazyCommand("model", "worker.commands.model", "Bring, combine, calibrate and judge models.", "Worker"),
    LazyCommand("panel", "worker.commands.panel", "Draw photographs beside their overlays.", "Worker"),
    LazyCommand("demo", "producer.commands.demo", "Grade the sample photographs on this machine alone.", "Set-up"),
    LazyCommand(
        "doctor", "producer.commands.doctor", "Check settings, services and model, and say how to mend them.", "Set-up"
    ),
    LazyCommand("db", "producer.commands.db", "Bring the database to this version's level.", "Set-up"),
)

VERSIONS = (
    ("model", "worker.commands.version", "describe_model"),
    ("ledger", "worker.ledger.migrate", "describe_required_revision"),
)
"""What else has a version: imported only when it is asked for, since a producer's machine may not have all of it."""

KEEP_TENSORFLOWS_WORDS = ("worker", "demo")
"""Elsewhere what TensorFlow tells of itself would break the lines of people; here it stands in a log."""


class FundusGroup(ErrorReportingGroup, LazyGroup):
    """All commands."""

    lazy_commands = COMMANDS


app = typer.Typer(
    cls=FundusGroup,
    help="Grade retinal photographs for diabetic retinopathy, in bulk and every night. Not a medical device.",
    epilog="Settings are FUNDUS_ variables of the environment. To start: fundus demo",
    rich_markup_mode="rich",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the framework calls it with the option's value
    if wanted:
        typer.echo(f"fundus {__version__}")
        for what, module, function in VERSIONS:
            try:
                typer.echo(f"{what:7}{getattr(import_module(module), function)()}")
            except ModuleNotFoundError as error:
                typer.echo(f"{what:7}unknown here: {error.name} is not installed")
        raise typer.Exit


@app.callback()
def fundus(
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback prints
        bool,
        typer.Option(
            "--version", help="Show the versions of program, model and ledger.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Common options."""
    if not debug and ctx.invoked_subcommand not in KEEP_TENSORFLOWS_WORDS:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> int:
    """Run the command line; the exit status: 0, 1 for a failure, 2 for what the caller must mend, 130 for Ctrl-C."""
    try:
        status = typer.main.get_command(app).main(prog_name="fundus", standalone_mode=False)
    except typer.TyperException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "fundus")
        if sentence := error.format_message():  # empty after the help that a bare `fundus` shows
            print_error("usage", f"{sentence.removesuffix('.')} (see `{where} --help`)")
        return error.exit_code
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0
