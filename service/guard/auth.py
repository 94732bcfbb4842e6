"""Bearer tokens at the door (RFC 6750): nothing of a request is read before its token was found good."""

import hmac
from collections.abc import Iterable
from typing import Literal

from latentd.service.errors import ApiError
from latentd.service.guard.client import Client
from latentd.service.guard.tokens import Tokens, check_token, digest_of
from latentd.service.settings import Settings

_SCHEME = b"bearer "

Headers = Iterable[tuple[bytes, bytes]]


class Access:
    """Which tokens open what."""

    def __init__(self, tokens: Tokens | None = None, metrics: str = "") -> None:
        """Without `tokens` the API is open, without `metrics` its numbers are."""
        self._tokens = tokens
        self._metrics = Client("metrics")
        self._metrics_digest = digest_of(metrics) if metrics else None

    @property
    def current(self) -> bool:
        """Whether the tokens are those of their file."""
        if self._tokens is None:
            return True
        self._tokens.look()
        return self._tokens.current

    def client(self, access: Literal["open", "client", "metrics"], headers: Headers) -> Client | None:
        """Return the client whose token the request has; None if `access` needs no token here.

        Raises ApiError 401 without a known token, 403 if the token is for something else.
        """
        if access == "open" or (self._tokens if access == "client" else self._metrics_digest) is None:
            return None
        client, scraper = self._whose(_token(headers))
        found, other = (client, scraper) if access == "client" else (scraper, client)
        if found is None and other is not None:
            opens = "opens /metrics alone" if access == "client" else "does not open /metrics"
            raise _forbidden(f"this token {opens}")
        if found is None:
            raise _unauthorized("this token is not known here", 'Bearer error="invalid_token"')
        return found

    def _whose(self, token: bytes) -> tuple[Client | None, Client | None]:
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


def _token(headers: Headers) -> bytes:
    shown = [value for name, value in headers if name == b"authorization"]
    if len(shown) != 1 or shown[0][: len(_SCHEME)].lower() != _SCHEME:
        raise _unauthorized("a token is needed, in the header Authorization: Bearer TOKEN", "Bearer")
    return shown[0][len(_SCHEME) :].strip()


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def _forbidden(message: str) -> ApiError:
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return ApiError(403, "forbidden", message, headers=challenge)
