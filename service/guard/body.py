"""The body of a request: its size, its type, and how many values it may hold."""

import codecs
from collections.abc import Callable, Collection, Iterable

from starlette.requests import Request

from latentd.service.catalog import ServedModel
from latentd.service.errors import ApiError, invalid

_JSON = b"application/json"
_READ_AS_JSON = frozenset({"application/json", "text/plain", "application/x-www-form-urlencoded", ""})
"""JSON, and the types that curl, fetch and others send by default."""
_NO_CODINGS = {b"identity", b""}
_COUNTED_FROM_BYTES = 2**16
"""Smaller bodies are parsed quickly, whatever they hold."""
_VALUES_BESIDE_LATENTS = 2**16


async def read_body(
    request: Request, limit: int, hold: Callable[[int], None], extra_types: Collection[str] = frozenset()
) -> bytes:
    """Return the whole body. `hold` is called with the size of each part. `extra_types`: media types beside JSON.

    Raises ApiError 413 for more than `limit` bytes, before reading if the Content-Length says so, and ApiError 415 for
    other media types.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            if int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-type" and value != _JSON:
            _check_type(value.decode("latin-1"), extra_types)
        elif name == b"content-encoding" and {each.strip().lower() for each in value.split(b",")} - _NO_CODINGS:
            message = "the body is compressed; send it without Content-Encoding"
            raise ApiError(415, "unsupported_media_type", message, headers={"Accept-Encoding": "identity"})
    body = bytearray()
    async for chunk in request.stream():
        hold(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def without_byte_order_mark(body: bytes) -> bytes:
    """Return a JSON text without the byte order mark that some programs write before UTF-8 (RFC 8259, section 8.1).

    Raises ApiError 400 if the text is UTF-16 or UTF-32. Without a mark, one of its first two bytes is zero, because
    JSON begins with an ASCII character.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or 0 in body[:2]:
        raise invalid(None, "the body is UTF-16 or UTF-32; JSON is sent in UTF-8")
    return body.removeprefix(codecs.BOM_UTF8)


def check_utf8(body: bytes) -> None:
    """Raise ApiError 400 if the body is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as problem:
        raise invalid(None, f"the body is not UTF-8 (byte {problem.start}); JSON is sent in UTF-8") from problem


def check_value_count(body: bytes, max_samples: int, models: Iterable[ServedModel]) -> None:
    """Raise ApiError 400 if a JSON body holds more values than a request for `max_samples` of any model can need.

    The parser holds the GIL on any thread, so the service answers nobody while it works: 8 MiB of empty lists take five
    seconds. Counting the characters before values takes a hundredth of that.
    """
    if len(body) <= _COUNTED_FROM_BYTES:
        return
    widest = max((model.card.spec.input.size for model in models), default=0)
    limit = _VALUES_BESIDE_LATENTS + max_samples * widest
    if len(body) - len(body.translate(None, b",[{")) > limit:
        raise invalid(None, f"the body holds more than {limit} values, which is more than any request needs")


def media_type_of(content_type: str) -> str:
    """Return the media type that a Content-Type header names, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def _check_type(content_type: str, extra_types: Collection[str]) -> None:
    if media_type_of(content_type) not in {*_READ_AS_JSON, *extra_types}:
        others = "".join(f", or as {each}" for each in extra_types)
        message = f"send the body as JSON, with Content-Type: application/json{others}"
        raise ApiError(415, "unsupported_media_type", message)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body is larger than {limit} bytes")
