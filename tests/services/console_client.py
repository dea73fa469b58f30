"""HTTP client of the console that uses cookies and forms as a browser does."""

import re
from types import TracebackType
from typing import Self

import httpx

_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')
_HIDDEN = re.compile(r'name="(shown|last_seen|photograph|opened|unassisted)" value="([^"]*)"')


class ConsoleClient:
    """One user's session; follows redirects."""

    def __init__(self, address: str, **client: object) -> None:
        self.client = httpx.Client(base_url=address, follow_redirects=True, timeout=30, **client)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, page: httpx.Response, **fields: str) -> httpx.Response:
        """Submit a form of `page`, with its token."""
        return self.client.post(path, data={"form_token": form_token_of(page), **fields})

    def sign_in(self, name: str, password: str) -> httpx.Response:
        return self.post("/sign-in", self.get("/sign-in"), name=name, password=password)

    def decide(self, path: str, grade: str, reason: str = "", page: httpx.Response | None = None) -> httpx.Response:
        """Submit the decision form of an image's page."""
        shown = page or self.get(path)
        hidden = dict(_HIDDEN.findall(shown.text))
        return self.post(f"{path}/decision", shown, grade=grade, reason=reason, then="stay", **hidden)


def form_token_of(page: httpx.Response) -> str:
    found = _TOKEN.search(page.text)
    assert found is not None, page.text
    return found[1]
