"""One request of a person: who asks, what the form says, and the checks before any page or deed."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.console.origin import Origin
from worker.console.photographs import Photographs
from worker.console.rendering import Pages
from worker.console.sessions import Person, find_person, is_form_token
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage
from worker.core.vocabulary import Role

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 32
FORM_TOKEN = "form_token"  # noqa: S105 - a field's name
FORM_TOKEN_HEADER = "x-form-token"  # noqa: S105 - a header's name
BY_ITSELF = "x-by-itself"
"""The header of what a page asks for without a person."""


class RefusedError(Exception):
    """A request that is not answered with what it asked for: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Console:
    """What all requests share."""

    settings: Settings
    engine: Engine
    storage: Storage
    photographs: Photographs
    pages: Pages
    origin: Origin

    @property
    def cookie(self) -> str:
        """The session cookie's name; with the prefix, browsers refuse it from other hosts and without TLS."""
        return "__Host-fundus" if self.origin.secure else "fundus"


@dataclass(frozen=True, slots=True)
class Call:
    """A request of somebody who is signed in."""

    console: Console
    request: Request
    person: Person
    form: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def render(self, template: str, *, status: int = 200, **content: Any) -> Response:
        """A page for this person."""
        return self.console.pages.render(template, status=status, person=self.person, request=self.request, **content)


Answer = Callable[[Call], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def page(answer: Answer) -> Endpoint:
    """An endpoint that shows something to whoever is signed in, and leads everybody else to the sign-in."""

    async def endpoint(request: Request) -> Response:
        person = await _find(request)
        if person is None:
            return _to_sign_in(request)
        return await run_in_threadpool(answer, Call(console_of(request), request, person))

    return endpoint


def deed(answer: Answer, *, role: Role | None = None) -> Endpoint:
    """An endpoint that changes something: only by a form of this person's own session, and only in that role."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        person = await _find(request)
        if person is None:
            return _to_sign_in(request)
        given = form.get(FORM_TOKEN) or request.headers.get(FORM_TOKEN_HEADER, "")
        if not is_form_token(given, person.token):
            raise RefusedError(403, "This form is not of your present session. Load the page again.")
        if role is not None and person.role is not role:
            raise RefusedError(403, f"This is for users of the role {role}; yours is {person.role}.")
        return await run_in_threadpool(answer, Call(console_of(request), request, person, form))

    return endpoint


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an ordinary form from a page of this console. Raises RefusedError."""
    if not console_of(request).origin.is_own_form(request.headers):
        raise RefusedError(403, "This form came from another site.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "Only ordinary forms are taken.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise RefusedError(413, f"A form has {MAX_FORM_BYTES} bytes at most.")
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, encoding="utf-8", errors="strict"
        )
    except ValueError:
        raise RefusedError(400, "This form cannot be read.") from None
    if any("\0" in value for _, value in fields):
        raise RefusedError(400, "This form holds a zero byte.")
    return dict(fields)


def console_of(request: Request) -> Console:
    """What the application was made with."""
    console: Console = request.app.state.console
    return console


async def _find(request: Request) -> Person | None:
    console = console_of(request)
    token = request.cookies.get(console.cookie)
    if not token:
        return None
    return await run_in_threadpool(find_person, console.engine, token, by_itself=BY_ITSELF in request.headers)


def _to_sign_in(request: Request) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = "/sign-in" if wanted == "/" or request.method != "GET" else f"/sign-in?next={quote(wanted)}"
    if "hx-request" in request.headers:
        # A fragment can't show the sign-in; the whole page has to go there.
        return Response(status_code=401, headers={"hx-refresh": "true"})
    return RedirectResponse(address, 303)
