"""Keep the logs of the servers and programs of failed tests, as a pytest plugin."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.stack import SERVER_FOLDER

FOLDER = Path(__file__).parents[1] / "test-logs"
MAX_LOG_BYTES = 1_000_000
"""Of each log, its end is kept."""


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    if report.failed:
        keep_logs(item)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if FOLDER.exists():
        terminalreporter.write_line(f"logs of failed tests: {FOLDER}")


def keep_logs(item: pytest.Item) -> None:
    """Copy the end of each log in the test's folder and in the folder of the session's servers."""
    sources = {item.config.stash.get(SERVER_FOLDER, None), getattr(item, "funcargs", {}).get("tmp_path")}
    target = FOLDER / re.sub(r"[^\w.-]+", "_", item.nodeid)
    for source in filter(None, sources):
        for log in source.rglob("*.log"):
            copy = target / log.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(log.read_bytes()[-MAX_LOG_BYTES:])
