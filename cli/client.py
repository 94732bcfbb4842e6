"""Ask a running service: with a token if it needs one, and by way of a proxy only if that is not this machine."""

import ipaddress
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click
import httpx

from latentd.models.errors import UsageError

_TIMEOUT_SECONDS = 600.0
_TOKEN_VARIABLE = "LATENTD_TOKEN"  # noqa: S105  # the name of the variable


def read_token(token: str | None, file: Path | None) -> str | None:
    """Return `token`, or else the token in `file`, or else in LATENTD_TOKEN; None without all three.

    Raises UsageError, which does not quote the token, if it cannot be a token, and if both arguments are given.
    """
    if token is not None and file is not None:
        raise UsageError("give either --token or --token-file")
    if token is not None:
        return _checked(token, "--token")
    if file is None:
        text = os.environ.get(_TOKEN_VARIABLE, "")
        return _checked(text, _TOKEN_VARIABLE) if text.strip() else None
    try:
        return _checked(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise UsageError(f"{file} cannot be read: {reason}") from problem


def _checked(text: str, source: str) -> str:
    words = text.removeprefix("\ufeff").split()
    if len(words) != 1 or not words[0].isascii() or not words[0].isprintable():
        raise UsageError(f"{source} has to contain one token and nothing else")
    return words[0]


def post(url: str, path: str, body: Any, accept: str, token: str | None) -> httpx.Response:
    """Send a request to the service at `url`. Raises click.ClickException if it is not answered with success."""
    headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})
    by = ""
    try:
        if proxy := proxy_for(url):
            by = f" through the proxy {_without_password(proxy)} (HTTP_PROXY and the like)"
        with _client(proxy) as client:
            answer = client.post(url.rstrip("/") + path, json=body, headers=headers, timeout=_TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as problem:
        # ImportError: of a SOCKS proxy; OSError: of SSL_CERT_FILE; ValueError: of a URL, or a latent that is not finite
        raise click.ClickException(f"{url} cannot be reached{by}: {problem}") from problem
    if not answer.is_success:
        raise click.ClickException(f"{url}{by} refused the request: {_reason(answer, token)}")
    return answer


def _client(proxy: str | None) -> httpx.Client:
    if proxy is None:
        return httpx.Client(mounts={"http://": None, "https://": None})  # in the place of the environment's proxies
    return httpx.Client(proxy=proxy)


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for `url`. This machine is always asked directly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_this_machine(host) or proxy_bypass(parts.netloc.rpartition("@")[2]) or _is_in_excepted_network(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _is_in_excepted_network(host: str) -> bool:
    """Whether NO_PROXY names a network, such as 10.0.0.0/8, that has the address `host`. urllib knows names only."""
    for network in getproxies().get("no", "").split(","):
        with suppress(ValueError):  # names, not addresses
            if ipaddress.ip_address(host) in ipaddress.ip_network(network.strip(), strict=False):
                return True
    return False


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _without_password(proxy: str) -> str:
    return re.sub(r"//[^/]*@", "//", proxy, count=1)


def _reason(answer: httpx.Response, token: str | None) -> str:
    try:
        error = answer.json()["error"]
        field = f"{error['field']}: " if error.get("field") else ""
        reason = f"{error['code']}: {field}{error['message']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = f"status {answer.status_code}"
    if answer.status_code == httpx.codes.UNAUTHORIZED and token is None:
        reason += f"; give it by --token, by --token-file or in {_TOKEN_VARIABLE}"
    return reason
