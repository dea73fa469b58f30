"""Fixtures: a real Chromium, and a visit that records errors and requests."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.browser.page_checks import PageChecks

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REFUSED_PORTS = "1719,1720,1723,2049,3659,4045,4190,5060,5061,6000,6566,6665,6666,6667,6668,6669,6679,6697,10080"
"""Ports that Chromium blocks but a test server may be given."""


@dataclass
class Visit(PageChecks):
    """One page in its own browser context. `complaints` are errors and warnings of the console and of scripts."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def record_message(self, message: "ConsoleMessage") -> None:
        """Record an error or a warning of the browser console."""
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Launch the installed Chromium; skip the test if there is no Chromium.

    Its scope is the module, because no event loop can be started while Playwright is open.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make .venv/.dev")
    with sync_api.sync_playwright() as playwright:
        # The sandbox of Chromium does not run as root.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        arguments += ["--disable-dev-shm-usage", f"--explicitly-allowed-ports={REFUSED_PORTS}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Return a function that opens an address: `visit(address, width=1280, dark=False, scripts=True)`."""
    contexts = []

    def open_address(address: str, *, width: int = 1280, dark: bool = False, scripts: bool = True) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        visit = Visit(context.new_page())
        visit.page.on(
            "console",
            lambda message: visit.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.goto(address)
        return visit

    yield open_address
    for context in contexts:
        context.close()
