"""The body of a request: how large it may be, what it may call itself, and how many values it may hold."""

import codecs
from collections.abc import Callable, Mapping

from starlette.requests import Request

from latentd.service.catalog import ServedModel
from latentd.service.errors import ApiError, invalid

_JSON = b"application/json"
_TAKEN_AS_JSON = frozenset({_JSON, b"text/plain", b"application/x-www-form-urlencoded", b""})
"""What curl and fetch say of a body where they are told nothing."""
_RAW = b"application/octet-stream"
_LOOKED_THROUGH = 2**16
"""Bytes from which on values are counted before they are parsed."""
_VALUES_BEYOND_LATENTS = 2**16


async def read_body(request: Request, limit: int, hold: Callable[[int], None], raw: bool = False) -> bytes:
    """The whole of it. ApiError 413 beyond `limit` bytes, before they are read where a header says so; 415.

    A `raw` body may also be called plain bytes.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            if int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-type" and value != _JSON:
            _check_type(value, raw)
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise ApiError(415, "unsupported_media_type", "a compressed body is not taken; send it as it is")
    body = bytearray()
    async for chunk in request.stream():
        hold(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def without_byte_order_mark(body: bytes) -> bytes:
    """Return a JSON text without the byte order mark that some programs write before UTF-8 (RFC 8259, section 8.1).

    Raises ApiError 400 if the mark is that of UTF-16 or UTF-32.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise invalid(None, "the body begins with the byte order mark of UTF-16 or UTF-32; JSON is sent in UTF-8")
    return body.removeprefix(codecs.BOM_UTF8)


def check_values(body: bytes, max_samples: int, models: Mapping[str, ServedModel]) -> None:
    """ApiError 400 where JSON holds more values than latents for all samples of the widest model, and some.

    The parser holds Python's lock, so that nobody else is answered meanwhile, in whichever thread it runs; eight MiB
    of empty lists are five seconds of it. Values are counted by what stands before them, in a hundredth of that.
    """
    if len(body) <= _LOOKED_THROUGH:
        return
    widest = max((model.card.spec.input.dim for model in models.values()), default=0)
    most = _VALUES_BEYOND_LATENTS + max_samples * widest
    if len(body) - len(body.translate(None, b",[{")) > most:
        raise invalid(None, f"the body holds more than {most} values, which is more than any request needs")


def _check_type(value: bytes, raw: bool) -> None:
    kind = value.partition(b";")[0].strip().lower()
    if kind not in _TAKEN_AS_JSON and not (raw and kind == _RAW):
        raise ApiError(415, "unsupported_media_type", "a body is JSON, with Content-Type: application/json")


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body is larger than {limit} bytes")
