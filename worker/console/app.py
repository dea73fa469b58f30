"""The ASGI application of the console."""

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

from worker.console.endpoints import Console, RefusedError, action, get_console, view
from worker.console.origin import Origin
from worker.console.pages import agreement, images, login, review, runs
from worker.console.photographs import PhotographRenderer
from worker.console.rendering import TemplateRenderer
from worker.console.security_headers import HEALTH, SecurityHeadersMiddleware
from worker.core.errors import FundusError, ImageChangedError, ImageError, ServiceError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Role
from worker.ledger.database import read_transaction

STATIC = Path(__file__).parent / "static"
IMAGE = "/runs/{run}/images/{image_id}"


def make_app(settings: Settings, engine: Engine, origin: Origin) -> SecurityHeadersMiddleware:
    """Build the application for this ledger. Its decoder processes end with its lifespan."""
    storage = Storage(settings)
    console = Console(settings, engine, storage, PhotographRenderer(settings, storage), TemplateRenderer(), origin)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        console.photographs.close()

    app = Starlette(
        routes=[
            Route("/", _redirect_home),
            Route(HEALTH, _check_health),
            Route("/favicon.ico", _favicon),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/sign-in", login.show_sign_in),
            Route("/sign-in", login.handle_sign_in, methods=["POST"]),
            Route("/sign-out", action(login.sign_out), methods=["POST"]),
            Route("/runs", view(runs.show_runs)),
            Route("/runs/{run}", view(runs.show_run)),
            Route("/runs/{run}/progress", view(runs.show_progress)),
            Route("/runs/{run}/readers", action(runs.change_reader_count, role=Role.OPERATOR), methods=["POST"]),
            Route("/runs/{run}/next", action(review.open_next_image, role=Role.GRADER), methods=["POST"]),
            Route(IMAGE, view(images.show_image)),
            Route(f"{IMAGE}/photograph", view(images.send_photograph)),
            Route(f"{IMAGE}/thumbnail", view(images.send_thumbnail)),
            Route(f"{IMAGE}/overlay", view(images.send_overlay)),
            Route(f"{IMAGE}/map", view(images.send_map)),
            Route(f"{IMAGE}/contours", view(images.send_contours)),
            Route("/map-scale.png", view(images.send_scale)),
            Route(f"{IMAGE}/lease", action(review.renew_image_lease, role=Role.GRADER), methods=["POST"]),
            Route("/runs/{run}/done", view(review.show_done)),
            Route("/runs/{run}/agreement", view(agreement.show_agreement)),
            Route("/runs/{run}/assistance", action(runs.change_assistance, role=Role.OPERATOR), methods=["POST"]),
            Route(f"{IMAGE}/undo", view(images.redirect_to_image)),
            Route(f"{IMAGE}/decision", view(images.redirect_to_image)),
            Route(f"{IMAGE}/undo", action(review.undo_decision, role=Role.GRADER), methods=["POST"]),
            Route(f"{IMAGE}/decision", action(review.save_decision, role=Role.GRADER), methods=["POST"]),
        ],
        exception_handlers={
            RefusedError: _show_refused,
            HTTPException: _show_http_error,
            FundusError: _show_failed,
            Exception: _show_unexpected,
        },
        lifespan=lifespan,
    )
    app.state.console = console
    return SecurityHeadersMiddleware(app, origin)


async def _redirect_home(_request: Request) -> Response:
    return RedirectResponse(login.HOME, 303)


def _check_health(request: Request) -> Response:
    """Answer health probes: 200 if the ledger responds. Needs no session and discloses nothing else."""
    with read_transaction(get_console(request).engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    return PlainTextResponse("ok\n")


async def _favicon(_request: Request) -> Response:
    return RedirectResponse("/static/eye.svg", 307)


async def _show_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101 - as it is registered
    return _render_error(request, error.status, error.message)


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered
    return _render_error(request, error.status_code, "Page not found." if error.status_code == 404 else error.detail)


async def _show_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, FundusError)  # noqa: S101 - as it is registered
    structlog.get_logger().warning("request_failed", path=request.url.path, code=error.code, detail=error.detail)
    if isinstance(error, ServiceError):
        return _render_error(
            request,
            503,
            f"A service is temporarily unavailable ({error.code}). No data was lost: try again in a moment.",
        )
    if isinstance(error, ImageChangedError):
        return _render_error(request, 422, "This is no longer the photograph that was graded.")
    if isinstance(error, ImageError):
        return _render_error(request, 422, f"This image cannot be displayed ({error.code}).")
    return _render_error(request, 500, f"The request failed ({error.code}). See the server log.")


async def _show_unexpected(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("request_crashed", path=request.url.path, error=type(error).__name__)
    return _render_error(request, 500, "Internal server error. See the server log.")


def _render_error(request: Request, status: int, message: str) -> Response:
    return get_console(request).templates.render(
        "error.html", status=status, user=None, request=request, message=message
    )
