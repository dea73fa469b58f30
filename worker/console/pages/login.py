"""Sign in and out."""

from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.console.endpoints import FORM_TOKEN, Call, Console, console_of, read_form
from worker.console.login import TooManyAttemptsError, sign_in
from worker.console.sessions import end_session, form_token, is_form_token, new_token
from worker.core.vocabulary import Action
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction

HOME = "/runs"


async def show_sign_in(request: Request) -> Response:
    """The form; its cookie is of no session and is forgotten when one begins."""
    return _form(request, wanted=_local(request.query_params.get("next", "")))


async def do_sign_in(request: Request) -> Response:
    """A new session under a new secret, whatever cookie the browser came with."""
    console = console_of(request)
    form = await read_form(request)
    wanted = _local(form.get("next", ""))
    if not is_form_token(form.get(FORM_TOKEN, ""), request.cookies.get(_form_cookie(console), new_token())):
        return _form(request, wanted=wanted, status=403, sentence="This page was open for too long. Try again.")
    name, password = form.get("name", "").strip().lower(), form.get("password", "")
    address = request.client.host if request.client else ""
    try:
        token = await run_in_threadpool(sign_in, console.engine, name, password, address)
    except TooManyAttemptsError as error:
        return _form(request, wanted=wanted, status=429, sentence=f"{error.detail[0].upper()}{error.detail[1:]}.")
    if token is None:
        return _form(request, wanted=wanted, status=401, sentence="Name or password is wrong.")
    response = RedirectResponse(wanted, 303)
    _set(response, console, console.cookie, token)
    response.delete_cookie(_form_cookie(console), path="/", secure=console.origin.secure, httponly=True)
    return response


def sign_out(call: Call) -> Response:
    """End the session here and in the ledger."""
    with write_transaction(call.console.engine) as connection:
        end_session(connection, call.person.token)
        record_action(connection, Action.SIGN_OUT, call.person.name)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(call.console.cookie, path="/", secure=call.console.origin.secure, httponly=True)
    # Whatever the browser has kept beside the cookie.
    response.headers["clear-site-data"] = '"cache"'
    return response


def _form(request: Request, *, wanted: str, status: int = 200, sentence: str = "") -> Response:
    console = console_of(request)
    token = new_token()
    response = console.pages.render(
        "sign_in.html",
        status=status,
        person=None,
        request=request,
        form_token=form_token(token),
        wanted=wanted,
        sentence=sentence,
    )
    _set(response, console, _form_cookie(console), token)
    return response


def _set(response: Response, console: Console, name: str, value: str) -> None:
    response.set_cookie(name, value, path="/", secure=console.origin.secure, httponly=True, samesite="lax")


def _form_cookie(console: Console) -> str:
    return f"{console.cookie}-form"


def _local(wanted: str) -> str:
    """A path of this console, never another site."""
    parts = urlsplit(wanted)
    plain = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isprintable()
    return wanted if plain and not parts.netloc and not wanted.startswith("/sign-") else HOME
