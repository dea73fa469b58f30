"""Request handling shared by all pages: session lookup, form parsing, and the checks before each view or action."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from worker.console.origin import Origin
from worker.console.photographs import PhotographRenderer
from worker.console.rendering import TemplateRenderer
from worker.console.sessions import SessionUser, find_session_user, is_form_token
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Role

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 32
FORM_TOKEN = "form_token"  # noqa: S105 - a field's name
FORM_TOKEN_HEADER = "x-form-token"  # noqa: S105 - a header's name
BACKGROUND_HEADER = "x-background-request"
"""Header of requests that a page sends without user input, such as polling."""


class RefusedError(Exception):
    """A refused request: the HTTP status and one sentence for the error page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Console:
    """Settings and services shared by all requests."""

    settings: Settings
    engine: Engine
    storage: Storage
    photographs: PhotographRenderer
    templates: TemplateRenderer
    origin: Origin

    @property
    def cookie(self) -> str:
        """Name of the session cookie. Browsers accept the `__Host-` prefix only over TLS and from this host."""
        return "__Host-fundus" if self.origin.secure else "fundus"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request of a signed-in user. `form` is empty for views."""

    console: Console
    request: Request
    user: SessionUser
    form: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """Return a path parameter."""
        return str(self.request.path_params[name])

    def render(self, template: str, *, status: int = 200, **content: Any) -> Response:
        """Render a template for this user."""
        return self.console.templates.render(template, status=status, user=self.user, request=self.request, **content)


Handler = Callable[[RequestContext], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def view(handler: Handler) -> Endpoint:
    """Wrap a read-only handler: requires a session, and redirects to the sign-in page without one."""

    async def endpoint(request: Request) -> Response:
        user = await _find_user(request)
        if user is None:
            return _redirect_to_sign_in(request)
        return await run_in_threadpool(handler, RequestContext(get_console(request), request, user))

    return endpoint


def action(handler: Handler, *, role: Role | None = None) -> Endpoint:
    """Wrap a handler that changes data: requires a form with the session's token and, if given, the role."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        user = await _find_user(request)
        if user is None:
            return _redirect_to_sign_in(request)
        given = form.get(FORM_TOKEN) or request.headers.get(FORM_TOKEN_HEADER, "")
        if not is_form_token(given, user.token):
            raise RefusedError(403, "This form belongs to another session. Reload the page and try again.")
        if role is not None and user.role is not role:
            raise RefusedError(403, f"This action requires the role {role}; your role is {user.role}.")
        return await run_in_threadpool(handler, RequestContext(get_console(request), request, user, form))

    return endpoint


async def read_form(request: Request) -> dict[str, str]:
    """Parse a URL-encoded form. Raises RefusedError for a form of another origin, another type, or above the limits."""
    if not get_console(request).origin.is_same_origin(request.headers):
        raise RefusedError(403, "This form was sent from another site.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "Only URL-encoded forms are accepted.")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM_BYTES:
                raise RefusedError(413, f"The form is larger than the limit of {MAX_FORM_BYTES} bytes.")
    except ClientDisconnect:
        raise RefusedError(400, "The connection ended before the form was complete.") from None
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, encoding="utf-8", errors="strict"
        )
    except ValueError:
        raise RefusedError(400, "The form is malformed.") from None
    if any("\0" in value for _, value in fields):
        raise RefusedError(400, "The form contains a zero byte.")
    return dict(fields)


def get_console(request: Request) -> Console:
    """Return the console that serves this request."""
    console: Console = request.app.state.console
    return console


async def _find_user(request: Request) -> SessionUser | None:
    console = get_console(request)
    token = request.cookies.get(console.cookie)
    if not token:
        return None
    background = BACKGROUND_HEADER in request.headers
    return await run_in_threadpool(find_session_user, console.engine, token, background=background)


def _redirect_to_sign_in(request: Request) -> Response:
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = "/sign-in" if target == "/" or request.method != "GET" else f"/sign-in?next={quote(target)}"
    if "hx-request" in request.headers:
        # A page fragment cannot show the sign-in form: make htmx reload the whole page.
        return Response(status_code=401, headers={"hx-refresh": "true"})
    return RedirectResponse(address, 303)
