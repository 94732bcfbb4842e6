"""The tokens that a service knows: one per line, in a file that may change while it runs, or in the environment."""

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentd.models.file_stamp import FileStamp
from latentd.service.guard.client import Client, ClientLimits

logger = logging.getLogger("latentd.guard")

_CHECK_SECONDS = 1.0
_MAX_FILE_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}={0,2}")
"""The form of RFC 6750, section 2.1 (https://www.rfc-editor.org/rfc/rfc6750), and too long to be guessed."""
_LIMIT = re.compile(r"(rate|burst)=([0-9]{1,9}(?:\.[0-9]{1,6})?)|(in_flight)=([0-9]{1,9})")


@dataclass(frozen=True)
class TokenLine:
    """One token: the name of its client, its digest, and the limits on its line (None if there are none)."""

    name: str
    digest: bytes
    limits: ClientLimits | None


def token_digest(token: str | bytes) -> bytes:
    """Return the SHA-256 digest of a token. It is stored and compared instead of the token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def check_token(token: str) -> None:
    """Raise ValueError if `token` is malformed. The message does not quote it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("a token has 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + /, and may end with = signs")


def parse_tokens(text: str) -> list[TokenLine]:
    """Parse lines of `NAME TOKEN [rate=R [burst=B]] [in_flight=N]`; # begins a comment.

    Lines with the same name are one client with several tokens. Raises ValueError if a line is wrong. The message has
    the number of the line, and never quotes it.
    """
    lines = []
    for number, written in enumerate(text.splitlines(), 1):
        if words := written.partition("#")[0].split():
            try:
                lines.append(_parse_line(words))
            except ValueError as problem:
                raise ValueError(f"line {number}: {problem}") from None
    if not lines:
        raise ValueError("there is no token in it")
    if len({line.digest for line in lines}) < len(lines):
        raise ValueError("a token is listed twice")
    return lines


def _parse_line(words: list[str]) -> TokenLine:
    if len(words) < 2 or not _NAME.fullmatch(words[0]):
        raise ValueError("a line begins with a name (letters, digits, . _ -) and a token")
    check_token(words[1])
    return TokenLine(words[0], token_digest(words[1]), _parse_limits(words[2:]))


def _parse_limits(words: list[str]) -> ClientLimits | None:
    found = [_LIMIT.fullmatch(word) for word in words]
    rates = {match[1]: float(match[2]) for match in found if match and match[1]}
    counts = {match[3]: int(match[4]) for match in found if match and match[3]}
    if len(rates) + len(counts) < len(words):
        raise ValueError(
            "after the token come rate=, burst= and in_flight=, each at most once; in_flight is an integer"
        )
    if not all((*rates.values(), *counts.values())):
        raise ValueError("rate, burst and in_flight must be above 0")
    limits: dict[str, Any] = rates | counts
    return ClientLimits(**limits) if words else None


class Tokens:
    """Finds the client of a token. A file is read again when it changes. If it is invalid then, the old tokens stay."""

    def __init__(self, read: Callable[[], str], file: Path | None = None, reserved: bytes | None = None) -> None:
        """`read` returns the lines, from `file` if there is one. `reserved`: the digest of a token that must not occur.

        Raises ValueError if a line is wrong, and OSError if the file cannot be read.
        """
        self._read = read
        self._file = file
        self._reserved = reserved
        self._clients: dict[str, Client] = {}
        self._known: tuple[tuple[bytes, Client], ...] = ()
        self.current = True
        """Whether the tokens are those that the file has now."""
        self._stamp = None if file is None else FileStamp.if_readable(file)
        self._next_check = time.monotonic() + _CHECK_SECONDS
        self._replace(parse_tokens(read()))

    @classmethod
    def of_file(cls, file: Path, reserved: bytes | None = None) -> "Tokens":
        """Read the tokens of a file, now and whenever it changes."""
        return cls(lambda: _text_of(file), file, reserved)

    def client_of(self, token: bytes) -> Client | None:
        """Return the client of `token`; None if it is unknown. The time depends only on the token's length."""
        self.refresh()
        given, found = token_digest(token), None
        for digest, client in self._known:
            if hmac.compare_digest(digest, given):
                found = client
        return found

    def refresh(self) -> None:
        """Read the file again if it has changed. It is checked at most once per second."""
        if self._file is None or time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_SECONDS
        stamp = FileStamp.if_readable(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._replace(parse_tokens(self._read()))
        except (OSError, ValueError) as problem:
            self.current = False
            reason = problem.strerror if isinstance(problem, OSError) else problem
            logger.error("%s: %s; the tokens stay as they were", self._file, reason)
        else:
            self.current = True
            logger.info("%s: %d tokens of %d clients", self._file, len(self._known), len(self._clients))

    def _replace(self, lines: Iterable[TokenLine]) -> None:
        """Use the tokens of `lines` from now on. A client whose name stays keeps its usage of its limits."""
        limits: dict[str, ClientLimits] = {}
        for line in lines:
            if line.digest == self._reserved:
                raise ValueError(f"{line.name} has the token for the metrics, which must be no client's")
            if line.limits is not None and limits.setdefault(line.name, line.limits) != line.limits:
                raise ValueError(f"{line.name} has different limits on two lines")
        clients = {line.name: self._clients.get(line.name) or Client(line.name) for line in lines}
        for name, client in clients.items():
            client.set_limits(limits.get(name, ClientLimits()))
        self._known = tuple((line.digest, clients[line.name]) for line in lines)
        self._clients = clients


def _text_of(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # opening a named pipe would wait for a writer
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = opened.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("it is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
