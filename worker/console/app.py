"""The console as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from worker.console.endpoints import Console, RefusedError, console_of, deed, page
from worker.console.origin import Origin
from worker.console.pages import images, reading, runs
from worker.console.pages import login as signing
from worker.console.photographs import Photographs
from worker.console.rendering import Pages
from worker.console.security_headers import HEALTH, GuardedAnswers
from worker.core.errors import FundusError, ImageError, ServiceError
from worker.core.settings import Settings
from worker.core.storage.object_store import Storage
from worker.core.vocabulary import Role
from worker.ledger.database import read_transaction as reading_ledger

STATIC = Path(__file__).parent / "static"
IMAGE = "/runs/{run}/images/{image_id}"


def make_app(settings: Settings, engine: Engine, origin: Origin) -> GuardedAnswers:
    """An application that serves this ledger; its decoding processes end with it."""
    storage = Storage(settings)
    console = Console(settings, engine, storage, Photographs(settings, storage), Pages(), origin)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        console.photographs.close()

    app = Starlette(
        routes=[
            Route("/", _go_home),
            Route(HEALTH, _is_healthy),
            Route("/favicon.ico", _favicon),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/sign-in", signing.show_sign_in),
            Route("/sign-in", signing.do_sign_in, methods=["POST"]),
            Route("/sign-out", deed(signing.sign_out), methods=["POST"]),
            Route("/runs", page(runs.show_runs)),
            Route("/runs/{run}", page(runs.show_run)),
            Route("/runs/{run}/progress", page(runs.show_progress)),
            Route("/runs/{run}/readers", deed(runs.change_readers, role=Role.OPERATOR), methods=["POST"]),
            Route("/runs/{run}/next", deed(reading.give_next, role=Role.GRADER), methods=["POST"]),
            Route(IMAGE, page(images.show_image)),
            Route(f"{IMAGE}/photograph", page(images.send_photograph)),
            Route(f"{IMAGE}/overlay", page(images.send_overlay)),
            Route(f"{IMAGE}/lease", deed(reading.keep, role=Role.GRADER), methods=["POST"]),
            Route(f"{IMAGE}/decision", deed(reading.save, role=Role.GRADER), methods=["POST"]),
        ],
        exception_handlers={
            RefusedError: _say_refused,
            HTTPException: _say_http,
            FundusError: _say_failed,
            Exception: _say_unexpected,
        },
        lifespan=lifespan,
    )
    app.state.console = console
    return GuardedAnswers(app, origin)


async def _go_home(_request: Request) -> Response:
    return RedirectResponse(signing.HOME, 303)


def _is_healthy(request: Request) -> Response:
    """For probes: whether the ledger answers; says nothing more to strangers."""
    with reading_ledger(console_of(request).engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    return PlainTextResponse("ok\n")


async def _favicon(_request: Request) -> Response:
    return RedirectResponse("/static/eye.svg", 307)


async def _say_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101 - as it is registered
    return _say(request, error.status, error.sentence)


async def _say_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered
    return _say(request, error.status_code, "There is no such page." if error.status_code == 404 else error.detail)


async def _say_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, FundusError)  # noqa: S101 - as it is registered
    structlog.get_logger().warning("request_failed", path=request.url.path, code=error.code, detail=error.detail)
    if isinstance(error, ServiceError):
        return _say(request, 503, f"A service is away just now ({error.code}). Nothing is lost: try again in a moment.")
    if isinstance(error, ImageError):
        return _say(request, 422, f"This photograph cannot be shown ({error.code}).")
    return _say(request, 500, f"This did not work ({error.code}); the log says why.")


async def _say_unexpected(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("request_broke", path=request.url.path, error=type(error).__name__)
    return _say(request, 500, "Something is wrong here; the log says what.")


def _say(request: Request, status: int, sentence: str) -> Response:
    return console_of(request).pages.render(
        "error.html", status=status, person=None, request=request, sentence=sentence
    )
