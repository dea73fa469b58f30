"""Say with every answer what a browser must not do with it, and answer nobody who asked for another host."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.console.origin import Origin

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it a browser names no origin in its own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
STATIC = "/static/"
HEALTH = "/healthz"
"""Asked for by probes, which know the console by its number only."""


class GuardedAnswers:
    """The outermost layer, so that errors have the headers, too."""

    def __init__(self, app: ASGIApp, origin: Origin) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers; refuse a foreign host."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                # A photograph must not stay on the disk of a machine that somebody else uses next.
                headers["cache-control"] = "no-cache" if scope["path"].startswith(STATIC) else "no-store"
                if self._origin.secure:
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        if scope["path"] == HEALTH or self._origin.is_asked(Headers(scope=scope)):
            await self._app(scope, receive, send_guarded)
        else:
            refusal = PlainTextResponse("This is not the address of this console: see FUNDUS_CONSOLE_URL.\n", 421)
            await refusal(scope, receive, send_guarded)
