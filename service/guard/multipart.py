"""Forms with files: multipart/form-data (RFC 7578), as curl -F and browsers send it."""

from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from latentd.service.errors import invalid

MULTIPART = "multipart/form-data"
_MAX_PART_HEADER = 8192


class Part(NamedTuple):
    """A field of a form."""

    name: str
    content: bytes
    is_file: bool


def parse_multipart(content_type: str, body: bytes, max_parts: int) -> list[Part]:
    """Return the parts of a form in order. Raises ApiError 400 if the body is not a form, or has too many parts."""
    _, options = parse_options_header(content_type)
    if b"boundary" not in options:
        raise invalid(None, f"Content-Type: {MULTIPART} needs a boundary; let your client write this header")
    collector = _Collector(max_parts)
    try:
        parser = MultipartParser(options[b"boundary"], collector.callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as problem:
        raise invalid(None, f"the form cannot be read: {problem}") from problem
    if not collector.ended:
        raise invalid(None, "the form ends before its last boundary")
    return collector.parts


class _Collector:
    """Collects parts from the parser's callbacks."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._max_parts = max_parts
        self._header = b"", b""
        self._disposition = b""
        self._content = bytearray()
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise invalid(None, f"the form has more than {self._max_parts} parts")
        self._header, self._disposition, self._content = (b"", b""), b"", bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._add_to_header(data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._add_to_header(b"", data[start:end])

    def _add_to_header(self, name: bytes, value: bytes) -> None:
        self._header = self._header[0] + name, self._header[1] + value
        if len(self._header[0]) + len(self._header[1]) > _MAX_PART_HEADER:
            raise invalid(None, "a part of the form has a header that is too long")

    def _end_header(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise invalid(None, "a part of the form has no name")
        self.parts.append(Part(name.decode(errors="replace"), bytes(self._content), b"filename" in options))

    def _end_form(self) -> None:
        self.ended = True
