"""Bearer tokens (RFC 6750). They are checked before the body of a request is read."""

import hmac
from collections.abc import Iterable
from typing import Literal

from latentd.service.errors import ApiError
from latentd.service.guard.client import Client
from latentd.service.guard.tokens import Tokens, check_token, token_digest
from latentd.service.settings import Settings

_SCHEME = b"bearer "

Headers = Iterable[tuple[bytes, bytes]]


class Access:
    """Which tokens give access to what."""

    def __init__(self, tokens: Tokens | None = None, metrics: str = "") -> None:
        """`tokens`: of clients; None: the API is open. `metrics`: the token for /metrics; empty: /metrics is open."""
        self._tokens = tokens
        self._metrics = Client("metrics")
        self._metrics_digest = token_digest(metrics) if metrics else None

    @property
    def tokens_current(self) -> bool:
        """Whether the tokens are those that their file has now."""
        if self._tokens is None:
            return True
        self._tokens.refresh()
        return self._tokens.current

    def client(self, access: Literal["open", "client", "metrics"], headers: Headers) -> Client | None:
        """Return the client that the request's token belongs to; None if `access` needs no token.

        Raises ApiError 401 if there is no known token, and 403 if the token is for something else.
        """
        if access == "open" or (self._tokens if access == "client" else self._metrics_digest) is None:
            return None
        token = _token(headers)
        client = None if self._tokens is None else self._tokens.client_of(token)
        opens_metrics = self._metrics_digest and hmac.compare_digest(self._metrics_digest, token_digest(token))
        scraper = self._metrics if opens_metrics else None
        found, other = (client, scraper) if access == "client" else (scraper, client)
        if found is None and other is not None:
            raise _forbidden(f"this token is {'only' if access == 'client' else 'not'} for /metrics")
        if found is None:
            raise _unauthorized("this token is unknown", 'Bearer error="invalid_token"')
        return found


OPEN = Access()
"""Everything is open."""


def access_from(settings: Settings) -> Access:
    """Return the access that the settings describe.

    Raises ValueError if a setting is wrong. The message names the setting and quotes no token.
    """
    listed, file, metrics = settings.tokens.get_secret_value(), settings.tokens_file, settings.metrics_token
    if listed and file:
        raise ValueError("LATENTD_TOKENS and LATENTD_TOKENS_FILE are both set; set one of them")
    try:
        name, reserved = "LATENTD_METRICS_TOKEN", None
        if metrics.get_secret_value():
            check_token(metrics.get_secret_value())
            reserved = token_digest(metrics.get_secret_value())
        name = "LATENTD_TOKENS"
        tokens = Tokens(lambda: listed.replace(";", "\n"), reserved=reserved) if listed else None
        name = "LATENTD_TOKENS_FILE"
        tokens = Tokens.of_file(file, reserved) if file else tokens
    except (OSError, ValueError) as problem:
        raise ValueError(f"{name}: {problem}") from None
    return Access(tokens, metrics.get_secret_value())


def _token(headers: Headers) -> bytes:
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        raise _unauthorized("a token is needed, in the header Authorization: Bearer TOKEN", "Bearer")
    return values[0][len(_SCHEME) :].strip()


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def _forbidden(message: str) -> ApiError:
    challenge = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return ApiError(403, "forbidden", message, headers=challenge)
