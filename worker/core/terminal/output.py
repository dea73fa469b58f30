"""Print results to stdout, and progress, notes and errors to stderr."""

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
"""Colour of progress bars. Rich's default is red, which looks like an error."""


def stdout_console() -> Console:
    """Return the console for results; it has no colours when piped or when NO_COLOR is set."""
    return Console(highlight=False)


def stderr_console() -> Console:
    """Return the console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout, with times in ISO 8601."""
    typer.echo(json.dumps(document, ensure_ascii=False, default=_encode_time))


def _encode_time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON serialisable")


def print_note(sentence: str, console: Console | None = None) -> None:
    """Print one line on stderr about ignored or missing input.

    console: that of a progress bar that is shown at the time.
    """
    text = Text.assemble(("note", "yellow"), ": ", escape_control_characters(sentence))
    (console or stderr_console()).print(text, soft_wrap=True)


def print_error(code: str, sentence: str) -> None:
    """Print one line on stderr: `error[code]: sentence`."""
    stderr_console().print(
        Text.assemble((f"error[{code}]", "bold red"), ": ", escape_control_characters(sentence)), soft_wrap=True
    )


def configure_command_logs() -> None:
    """Log warnings and errors of a command to stderr, one line each, in the format of FUNDUS_LOG_FORMAT.

    The worker and the console call `configure_logs` instead.
    """
    structlog.configure(
        processors=[_only_warnings, structlog.processors.TimeStamper(fmt="iso", utc=True), _render],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _render(logger: object, level: str, event: MutableMapping[str, Any]) -> Any:
    # Imported here so that `fundus --help` reads no settings.
    from worker.core.settings import read_settings

    if read_settings().log_format == "json":
        return structlog.processors.JSONRenderer()(logger, level, event)
    return structlog.processors.KeyValueRenderer(key_order=["level", "event"])(logger, level, event)


def _only_warnings(_logger: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if level not in ("warning", "error", "critical"):
        raise structlog.DropEvent
    return {"level": level, **event}


def escape_control_characters(text: str) -> str:
    """Escape unprintable characters, so that a name from a file cannot control the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_duration(seconds: float) -> str:
    """Format with at most two units: `45 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    for unit, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"
