import os
import pty
import subprocess
import sys

import pytest

FAIL = """
import sys
import structlog
from worker.core.telemetry.log_setup import configure_logs
configure_logs(sys.argv[1], "info")

def connect(url):
    raise OSError("no route")

try:
    connect("redis://:" + "hunter" + "2@broker")
except OSError:
    structlog.get_logger("test").exception("unexpected", image="a")
"""


@pytest.mark.parametrize("fmt", ["human", "json"])
def test_traceback_has_no_values_of_local_variables(fmt: str) -> None:
    output = subprocess.run([sys.executable, "-c", FAIL, fmt], capture_output=True, text=True, check=True).stderr
    assert "OSError: no route" in output
    assert "Traceback (most recent call last)" in output
    assert "hunter2" not in output


@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_terminal_has_colours_unless_the_environment_disables_them(variable: dict[str, str], *, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **variable}
    subprocess.run([sys.executable, "-c", FAIL, "human"], stderr=theirs, check=True, env=environment)
    os.close(theirs)
    output = os.read(ours, 65536)
    os.close(ours)
    assert (b"\x1b[" in output) == coloured
