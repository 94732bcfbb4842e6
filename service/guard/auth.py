"""Bearer tokens at the door (RFC 6750): nothing of a request is read before its token was found good."""

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.service.context import current_context, request_context
from latentd.service.errors import ApiError
from latentd.service.guard.account import Account, RequestCharge
from latentd.service.guard.tokens import Tokens, check_token, digest_of
from latentd.service.responses import error_response
from latentd.service.settings import Settings

_SCHEME = b"bearer "
_VISIT = "latentd_visit"

Refused = Callable[[str], None]
"""Is told the code of each refusal."""


class Access:
    """Which tokens open what."""

    def __init__(self, tokens: Tokens | None = None, metrics: str = "") -> None:
        """Without `tokens` the API is open, without `metrics` its numbers are."""
        self._tokens = tokens
        self._metrics = Account("metrics")
        self._metrics_digest = digest_of(metrics) if metrics else None

    @property
    def current(self) -> bool:
        """Whether the tokens are those of their file."""
        if self._tokens is None:
            return True
        self._tokens.look()
        return self._tokens.current

    def to_api(self, app: ASGIApp, refused: Refused) -> ASGIApp:
        """`app`, for clients."""
        return app if self._tokens is None else AuthMiddleware(app, self._client, refused)

    def to_metrics(self, app: ASGIApp, refused: Refused) -> ASGIApp:
        """`app`, for who has the token for the metrics."""
        return app if self._metrics_digest is None else AuthMiddleware(app, self._scraper, refused)

    def _client(self, token: bytes) -> Account | None:
        asker, scraper = self._whose(token)
        if scraper and not asker:
            raise _forbidden("this token opens /metrics alone")
        return asker

    def _scraper(self, token: bytes) -> Account | None:
        asker, scraper = self._whose(token)
        if asker and not scraper:
            raise _forbidden("this token does not open /metrics")
        return scraper

    def _whose(self, token: bytes) -> tuple[Account | None, Account | None]:
        asker = None if self._tokens is None else self._tokens.whose(token)
        scrapes = self._metrics_digest is not None and hmac.compare_digest(self._metrics_digest, digest_of(token))
        return asker, self._metrics if scrapes else None


OPEN = Access()
"""To everybody."""


def configured(settings: Settings) -> Access:
    """As the settings say. ValueError names the one at fault, and never quotes a token."""
    listed, file, metrics = settings.tokens.get_secret_value(), settings.tokens_file, settings.metrics_token
    if listed and file:
        raise ValueError("LATENTD_TOKENS and LATENTD_TOKENS_FILE: set one of them")
    try:
        name, reserved = "LATENTD_METRICS_TOKEN", None
        if metrics.get_secret_value():
            check_token(metrics.get_secret_value())
            reserved = digest_of(metrics.get_secret_value())
        name = "LATENTD_TOKENS"
        tokens = Tokens(lambda: listed.replace(";", "\n"), reserved=reserved) if listed else None
        name = "LATENTD_TOKENS_FILE"
        tokens = Tokens.of_file(file, reserved) if file else tokens
    except (OSError, ValueError) as problem:
        raise ValueError(f"{name}: {problem}") from None
    return Access(tokens, metrics.get_secret_value())


def charge(scope: Scope, samples: int, seconds_for: Callable[[int], float]) -> None:
    """Samples at the cost of whoever asks; in flight until the answer's end, given back where it is a 429 or our fault.

    Raises ApiError 429 or 400 where they are too many; `seconds_for` says how long so many take.
    """
    visit: RequestCharge | None = scope["state"].get(_VISIT)
    if visit is not None:
        visit.charge(samples, seconds_for)


class AuthMiddleware:
    """An app for those whose token `whose` knows."""

    def __init__(self, app: ASGIApp, whose: Callable[[bytes], Account | None], refused: Refused) -> None:
        self._app = app
        self._whose = whose
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            visit = RequestCharge(self._enter(scope))
        except ApiError as refusal:
            self._refused(refusal.code)
            await error_response(refusal)(scope, receive, send)
            return
        scope.setdefault("state", {})[_VISIT] = visit
        context = current_context()
        context.client = visit.account.name
        status: int = HTTPStatus.OK  # of a client that left before there was one, too: its samples were computed

        def send_noting_status(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        working_for = request_context.set(context)
        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            request_context.reset(working_for)
            visit.end(status)

    def _enter(self, scope: Scope) -> Account:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) != 1 or shown[0][: len(_SCHEME)].lower() != _SCHEME:
            raise _unauthorized("a token is needed, in the header Authorization: Bearer TOKEN", "Bearer")
        account = self._whose(shown[0][len(_SCHEME) :].strip())
        if account is None:
            raise _unauthorized("this token is not known here", 'Bearer error="invalid_token"')
        return account


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def _forbidden(message: str) -> ApiError:
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return ApiError(403, "forbidden", message, headers=challenge)
