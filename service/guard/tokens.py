"""The tokens that a service knows: a line a token, from a file that may change while it runs, or the environment."""

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

from latentd.service.guard.client import Client, Limits

logger = logging.getLogger("latentd.guard")

_LOOK_SECONDS = 1.0
_LARGEST_FILE = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}={0,2}")
"""RFC 6750, section 2.1, and long enough that nobody guesses it: https://www.rfc-editor.org/rfc/rfc6750."""
_LIMIT = re.compile(r"(rate|burst)=([0-9]{1,9}(?:\.[0-9]{1,6})?)|(in_flight)=([0-9]{1,9})")


@dataclass(frozen=True)
class Line:
    """One token: whose it is, what it hashes to, and the limits that stand beside it."""

    name: str
    digest: bytes
    limits: Limits | None


def digest_of(token: str | bytes) -> bytes:
    """What is kept and compared in a token's place."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def check_token(token: str) -> None:
    """ValueError, which does not quote it, where a token is none."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("a token has 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + /, and may end with = signs")


def parse(text: str) -> list[Line]:
    """`NAME TOKEN [rate=R [burst=B]] [in_flight=N]` a line; # begins a comment.

    LogFormatter of one name are one client with several tokens. ValueError names the line at fault and never quotes it.
    """
    lines = []
    for number, written in enumerate(text.splitlines(), 1):
        if words := written.partition("#")[0].split():
            try:
                lines.append(_parse_line(words))
            except ValueError as problem:
                raise ValueError(f"line {number}: {problem}") from None
    if not lines:
        raise ValueError("it holds no token")
    if len({line.digest for line in lines}) < len(lines):
        raise ValueError("a token stands there twice")
    return lines


def _parse_line(words: list[str]) -> Line:
    if len(words) < 2 or not _NAME.fullmatch(words[0]):
        raise ValueError("a name (letters, digits, . _ -) and a token are needed")
    check_token(words[1])
    return Line(words[0], digest_of(words[1]), _parse_limits(words[2:]))


def _parse_limits(words: list[str]) -> Limits | None:
    found = [_LIMIT.fullmatch(word) for word in words]
    rates = {match[1]: float(match[2]) for match in found if match and match[1]}
    counts = {match[3]: int(match[4]) for match in found if match and match[3]}
    if len(rates) + len(counts) < len(words):
        raise ValueError(
            "after the token come rate=, burst= and in_flight=, each at most once; the last is a whole number"
        )
    if not all((*rates.values(), *counts.values())):
        raise ValueError("rate, burst and in_flight are above 0")
    limits: dict[str, Any] = rates | counts
    return Limits(**limits) if words else None


class Tokens:
    """Finds whose a token is. Read again when the file changes; one that is not good leaves the tokens as they are."""

    def __init__(self, read: Callable[[], str], file: Path | None = None, reserved: bytes | None = None) -> None:
        """ValueError or OSError where `read` gives no tokens; `file` is where it reads, if that may change.

        `reserved`: what a token for something else hashes to, which is therefore none of these.
        """
        self._read = read
        self._file = file
        self._reserved = reserved
        self._clients: dict[str, Client] = {}
        self._known: tuple[tuple[bytes, Client], ...] = ()
        self.current = True
        """Whether they are what the file says."""
        self._seen = self._state()
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._take(parse(read()))

    @classmethod
    def of_file(cls, file: Path, reserved: bytes | None = None) -> "Tokens":
        """The tokens of a file, as it is now and will be."""
        return cls(lambda: _text_of(file), file, reserved)

    def whose(self, token: bytes) -> Client | None:
        """The client that `token` opens; takes the same time for every token of a length."""
        self.look()
        given, found = digest_of(token), None
        for digest, client in self._known:
            if hmac.compare_digest(digest, given):
                found = client
        return found

    def look(self) -> None:
        """Read them again if it is time to, and their file is another."""
        if self._file is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._take(parse(self._read()))
        except (OSError, ValueError) as problem:
            self.current = False
            reason = problem.strerror if isinstance(problem, OSError) else problem
            logger.error("%s: %s; the tokens stay as they were", self._file, reason)
        else:
            self.current = True
            logger.info("%s: %d tokens of %d names", self._file, len(self._known), len(self._clients))

    def _take(self, lines: Iterable[Line]) -> None:
        """A name that stays keeps what it has used up."""
        limits: dict[str, Limits] = {}
        for line in lines:
            if line.digest == self._reserved:
                raise ValueError(f"{line.name} has the token for the metrics, which opens nothing else")
            if line.limits is not None and limits.setdefault(line.name, line.limits) != line.limits:
                raise ValueError(f"{line.name} has different limits on two lines")
        clients = {line.name: self._clients.get(line.name) or Client(line.name) for line in lines}
        for name, client in clients.items():
            client.set_limits(limits.get(name, Limits()))
        self._known = tuple((line.digest, clients[line.name]) for line in lines)
        self._clients = clients

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return found and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _text_of(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a file")
        content = opened.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError("it is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
