"""Request ids: the client's own id if it is safe, else a random one."""

import random
import re
from collections.abc import Iterable

HEADER = b"x-request-id"
_RANDOM = random.Random()  # noqa: S311  # an id is no secret
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the request's id from ASGI's `headers`, whose names are in lower case.

    An id that could break a line of the log, a page or a query is replaced.
    """
    for name, value in headers:
        if name == HEADER and _SAFE.fullmatch(value):
            return value.decode()
    return f"{_RANDOM.getrandbits(128):032x}"
