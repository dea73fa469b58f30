"""What the commands print: answers to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.text import Text

BAR_STYLE = "cyan"
"""Of what is done. Rich's own is red, which is for what went wrong."""


def stdout_console() -> Console:
    """The console of results; without colours when piped or when NO_COLOR is set."""
    return Console(highlight=False)


def stderr_console() -> Console:
    """The console of progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One object on one line of stdout; moments as ISO 8601."""
    typer.echo(json.dumps(document, ensure_ascii=False, default=_moment))


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON type")


def print_note(sentence: str) -> None:
    """One line on stderr about something that was left out."""
    stderr_console().print(Text.assemble(("note", "yellow"), ": ", escape_control_characters(sentence)), soft_wrap=True)


def print_error(code: str, sentence: str) -> None:
    """One line on stderr: `error[code]: sentence`."""
    stderr_console().print(
        Text.assemble((f"error[{code}]", "bold red"), ": ", escape_control_characters(sentence)), soft_wrap=True
    )


def configure_command_logs() -> None:
    """What the libraries of a command log, from a warning on: one line each, in the form of FUNDUS_LOG_FORMAT.

    A worker and the console set up a log of their own.
    """
    structlog.configure(
        processors=[_only_warnings, structlog.processors.TimeStamper(fmt="iso", utc=True), _render],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _render(logger: object, level: str, event: MutableMapping[str, Any]) -> Any:
    # Only now, so that a bare `fundus --help` needs no settings.
    from worker.core.settings import read_settings

    if read_settings().log_format == "json":
        return structlog.processors.JSONRenderer()(logger, level, event)
    return structlog.processors.KeyValueRenderer(key_order=["level", "event"])(logger, level, event)


def _only_warnings(_logger: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if level not in ("warning", "error", "critical"):
        raise structlog.DropEvent
    return {"level": level, **event}


def escape_control_characters(text: str) -> str:
    """The text with control characters escaped: a name from a file must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_duration(seconds: float) -> str:
    """Two units at most: `45 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    for unit, name, below, below_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {below_name}"
    return f"{whole} s"
