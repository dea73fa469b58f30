"""Run a command on a terminal of its own, and draw what it shows as a picture."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, LINES = 80, 40
THEME = TerminalTheme(
    (20, 23, 26),
    (232, 234, 237),
    [(58, 64, 71), (255, 138, 128), (125, 211, 150), (255, 217, 138), (140, 196, 255), (214, 170, 255), (122, 214, 222),
     (232, 234, 237)],
)  # fmt: skip
"""Light on dark, each colour at 7 : 1 or better."""
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14171a; }}
pre {{ display: inline-block; margin: 0; padding: 18px 22px; color: #e8eaed;
  font: 15px/1.3 "Liberation Mono", "DejaVu Sans Mono", monospace; }}
{styles}</style><pre>{lines}</pre>"""


def run_on_terminal(command: Sequence[str], env: Mapping[str, str]) -> str:
    """What the command writes to a terminal of COLUMNS, its escapes included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, **env, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    written = b""
    try:
        written = _read_all(ours)
        process.wait()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return written.decode(errors="replace")


def draw_terminal(browser: Browser, shown: Sequence[tuple[str, str]]) -> bytes:
    """A PNG of commands and what they printed."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    for command, printed in shown:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(printed.replace("\r\n", "\n").rstrip("\n")))
        console.print()
    document = console.export_html(theme=THEME, inline_styles=True, code_format="{code}")
    page = browser.new_page(viewport={"width": 800, "height": 600}, device_scale_factor=1.5)
    page.set_content(PAGE.format(styles="", lines=document.rstrip()))
    picture = page.locator("pre").screenshot(type="png")
    page.close()
    return picture


def _read_all(ours: int) -> bytes:
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            return written
        if not part:
            return written
        written += part
