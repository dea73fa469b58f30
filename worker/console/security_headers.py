"""Add security headers to every response and refuse requests for other hosts."""

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
    # `no-referrer` would make browsers send forms with `Origin: null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
STATIC = "/static/"
HEALTH = "/healthz"
"""Probes call it by IP address, so any `Host` is accepted."""


class SecurityHeadersMiddleware:
    """Outermost ASGI middleware, so that error responses have the headers as well."""

    def __init__(self, app: ASGIApp, origin: Origin) -> None:
        self._app = app
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers, or refuse a foreign host with status 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                # Photographs must not remain in the cache of a shared computer.
                headers["cache-control"] = "no-cache" if scope["path"].startswith(STATIC) else "no-store"
                if self._origin.secure:
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        if scope["path"] == HEALTH or self._origin.matches_host(Headers(scope=scope)):
            await self._app(scope, receive, send_with_headers)
        else:
            refusal = PlainTextResponse("Unknown host: set FUNDUS_CONSOLE_URL to the address that users open.\n", 421)
            await refusal(scope, receive, send_with_headers)
