"""Sign in and out."""

from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.console.endpoints import FORM_TOKEN, Console, RequestContext, get_console, read_form
from worker.console.login import TooManyAttemptsError, sign_in
from worker.console.sessions import end_session, form_token, is_form_token, new_token
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction

HOME = "/runs"


async def show_sign_in(request: Request) -> Response:
    """Show the sign-in form. Its own cookie protects it against forgery until a session starts."""
    return _show_form(request, target=_local_path(request.query_params.get("next", "")))


async def handle_sign_in(request: Request) -> Response:
    """Start a session with a new token, whatever cookie the browser sent."""
    console = get_console(request)
    form = await read_form(request)
    target = _local_path(form.get("next", ""))
    if not is_form_token(form.get(FORM_TOKEN, ""), request.cookies.get(_form_cookie(console), new_token())):
        return _show_form(request, target=target, status=403, message="The sign-in page has expired. Try again.")
    name, password = form.get("name", "").strip().lower(), form.get("password", "")
    address = request.client.host if request.client else ""
    try:
        token = await run_in_threadpool(sign_in, console.engine, name, password, address)
    except TooManyAttemptsError as error:
        message = f"{error.detail[0].upper()}{error.detail[1:]}."
        return _show_form(request, target=target, status=429, message=message)
    if token is None:
        return _show_form(request, target=target, status=401, message="Incorrect name or password.")
    response = RedirectResponse(target, 303)
    _set_cookie(response, console, console.cookie, token)
    response.delete_cookie(_form_cookie(console), path="/", secure=console.origin.secure, httponly=True)
    return response


def sign_out(context: RequestContext) -> Response:
    """End the session in the ledger, and delete its cookie and the browser's cache."""
    with write_transaction(context.console.engine) as connection:
        end_session(connection, context.user.token)
        record_action(connection, AuditAction.SIGN_OUT, context.user.name)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(context.console.cookie, path="/", secure=context.console.origin.secure, httponly=True)
    response.headers["clear-site-data"] = '"cache"'
    return response


def _show_form(request: Request, *, target: str, status: int = 200, message: str = "") -> Response:
    console = get_console(request)
    token = new_token()
    response = console.templates.render(
        "sign_in.html",
        status=status,
        user=None,
        request=request,
        form_token=form_token(token),
        target=target,
        message=message,
    )
    _set_cookie(response, console, _form_cookie(console), token)
    return response


def _set_cookie(response: Response, console: Console, name: str, value: str) -> None:
    response.set_cookie(name, value, path="/", secure=console.origin.secure, httponly=True, samesite="lax")


def _form_cookie(console: Console) -> str:
    return f"{console.cookie}-form"


def _local_path(target: str) -> str:
    """Return the target if it is a path of this console, else HOME: never redirect to another site."""
    parts = urlsplit(target)
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if plain and not parts.netloc and not target.startswith("/sign-") else HOME
