"""The log's lines: what is in one, in JSON or for people's eyes, and how they reach standard output.

BentoML's handler stands under every logger of the process and keeps doing so; it gets our form.
"""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from latentd.models.files import printable
from latentd.service.context import RequestContext, request_context

Fields = dict[str, Any]
Formatter = Callable[[Fields], bytes]
"""A line without its end; `time`, `level`, `logger` and `message` are in every one."""

_BENTOMLS_HANDLER = "tracehandler"
_TWICE = ("uvicorn.error", "circus")
"""Loggers that have BentoML's handler and pass their records on to the root's, which is the same."""
_LONGEST_TEXT = 16 * 2**10
"""Characters of a message, and of each part of a traceback."""
_SECRET = re.compile(r"(?i)\b(bearer|basic)\s++[^\s'\",;)]++")
_NUMBERS = re.compile(r"(?:[-+]?+(?<![\d.])\d[\d.]*+(?:e[-+]?\d++)?+[\s,\[\]()]++){8,}+")
"""What a latent looks like in an exception's text. Nothing is tried twice: digits would cost their square."""


def as_json(fields: Fields) -> bytes:
    """One JSON object."""
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def as_text(fields: Fields) -> bytes:
    """The time of day, what happened, and the rest as name=value; a traceback in lines of its own."""
    rest = dict(fields)
    time, level, logger, message = (rest.pop(name) for name in ("time", "level", "logger", "message"))
    below = rest.pop("traceback", None)
    facts = "".join(f" {name}={_short(value)}" for name, value in rest.items())
    text = f"{time.astimezone():%H:%M:%S}.{time.microsecond // 1000:03} {level:7} {logger}: {message}{facts}"
    return (text if below is None else f"{text}\n{below}").encode()


def form_for(setting: Literal["auto", "json", "console"]) -> Formatter:
    """`auto`: for people where they look on, on a terminal."""
    readable = sys.stdout.isatty() if setting == "auto" else setting == "console"
    return as_text if readable else as_json


def write(line: bytes) -> None:
    """To standard output, at once and whole."""
    with suppress(OSError, ValueError):  # it was closed: there is nobody to tell, and requests go on
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def clean(text: str) -> str:
    """On one line, without anything that a terminal obeys."""
    return text if text.isprintable() else printable(text)


class LogFormatter(logging.Formatter):
    """Log records in a form of ours, with the id of the request or requests that they are about."""

    def __init__(self, form: Formatter) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        fields: Fields = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(_without_secrets(_cut(record.getMessage()))),
        }
        about = getattr(record, "request_contexts", None)  # the engine's, of a batch
        fields |= _current() if about is None else {"request_ids": [str(each) for each in about if each is not None]}
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = _told(record.exc_info[1])
        return self._form(fields).decode()


def set_up(form: Formatter) -> None:
    """Give the process's log this form. Where BentoML does not serve, the log is the host's and stays as it is."""
    handlers = [each for each in logging.getLogger().handlers if each.name == _BENTOMLS_HANDLER]
    for handler in handlers:
        handler.setFormatter(LogFormatter(form))
    if handlers:
        logging.captureWarnings(True)
        for name in _TWICE:
            logging.getLogger(name).propagate = False


def _current() -> Fields:
    context = request_context.get()
    return {} if context is None else ids_of(context)


def ids_of(context: RequestContext) -> Fields:
    """What a request is found by: its id, and its trace's where it has one."""
    if context.span is None:
        return {"request_id": context.id}
    return {"request_id": context.id, "trace_id": f"{context.span.get_span_context().trace_id:032x}"}


def _told(problem: BaseException) -> str:
    """A traceback, whose texts may quote what a client sent."""
    return "\n".join(clean(line) for part in _parts(problem) for line in _without_secrets(_cut(part)).splitlines())


def _parts(problem: BaseException) -> Iterable[str]:
    return traceback.TracebackException.from_exception(problem).format()


def _without_secrets(text: str) -> str:
    return _NUMBERS.sub("(numbers) ", _SECRET.sub(r"\1 (secret)", text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
