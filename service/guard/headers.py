"""What every answer says to browsers: to take it for what it is called, and to let no other site use it."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API = "default-src 'none'; frame-ancestors 'none'"
_EXPLORER = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_BENTOMLS_PAGE = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",  # and not the tag manager that the page asks for
        "style-src 'self' 'unsafe-inline'",  # Swagger UI writes style attributes
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def _headers(policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", policy.encode()),
    ]


FOR_API = _headers(_API)
_FOR_PAGES = {"/": _headers(_BENTOMLS_PAGE), "/explore": _headers(_EXPLORER)}


class SecurityHeaders:
    """Gives all answers of an app their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        added = _FOR_PAGES.get(scope.get("path", ""), FOR_API)

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            return send(message)

        await self._app(scope, receive, send_with_headers)
