"""The id by which a request is found again: the client's own if it is sane, else one of ours."""

import random
import re
from collections.abc import Iterable

HEADER = b"x-request-id"
_RANDOM = random.Random()  # noqa: S311  # an id is no secret
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Of ASGI's headers, whose names are lower case. What could break a line, a page or a query is not taken."""
    for name, value in headers:
        if name == HEADER and _SANE.fullmatch(value):
            return value.decode()
    return f"{_RANDOM.getrandbits(128):032x}"
