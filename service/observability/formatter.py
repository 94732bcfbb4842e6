"""The lines of the log: their fields, their form (JSON, or text for people), and writing them to standard output.

All loggers of the process use BentoML's handler. It stays, and gets our formatter.
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
"""(fields) → a line without its end. Every line has `time`, `level`, `logger` and `message`."""

_BENTOML_HANDLER = "tracehandler"
_LOGGED_TWICE = ("uvicorn.error", "circus")
"""Loggers that have BentoML's handler, and also pass records to the root logger, which has the same handler."""
_MAX_TEXT = 16 * 2**10
"""Characters of a message, and of each part of a traceback."""
_SECRET = re.compile(r"(?i)\b(bearer|basic)\s++[^\s'\",;)]++")
_NUMBERS = re.compile(r"(?:[-+]?+(?<![\d.])\d[\d.]*+(?:e[-+]?\d++)?+[\s,\[\]()]++){8,}+")
"""Eight numbers or more, as in an exception that quotes a latent. The pattern never backtracks, because long runs of
digits would then take quadratic time."""


def as_json(fields: Fields) -> bytes:
    """Format as one JSON object."""
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def as_text(fields: Fields) -> bytes:
    """Format as text: the time of day, the message, other fields as name=value, and the traceback on lines below."""
    rest = dict(fields)
    time, level, logger, message = (rest.pop(name) for name in ("time", "level", "logger", "message"))
    below = rest.pop("traceback", None)
    facts = "".join(f" {name}={_short(value)}" for name, value in rest.items())
    text = f"{time.astimezone():%H:%M:%S}.{time.microsecond // 1000:03} {level:7} {logger}: {message}{facts}"
    return (text if below is None else f"{text}\n{below}").encode()


def formatter_for(setting: Literal["auto", "json", "console"]) -> Formatter:
    """Return the formatter of a setting. `auto`: text on a terminal, JSON elsewhere."""
    readable = sys.stdout.isatty() if setting == "auto" else setting == "console"
    return as_text if readable else as_json


def write(line: bytes) -> None:
    """Write a line to standard output at once."""
    with suppress(OSError, ValueError):  # it was closed; requests go on without a log
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def clean(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return text if text.isprintable() else printable(text)


class LogFormatter(logging.Formatter):
    """Formats log records with a `Formatter`, with the ids of the requests that they are about."""

    def __init__(self, formatter: Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        fields: Fields = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(_without_secrets(_cut(record.getMessage()))),
        }
        about = getattr(record, "request_contexts", None)  # the engine logs a batch of several requests
        fields |= _current() if about is None else {"request_ids": [str(each) for each in about if each is not None]}
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = _traceback(record.exc_info[1])
        return self._formatter(fields).decode()


def configure_logging(formatter: Formatter) -> None:
    """Format all logs of the process with `formatter`. Without BentoML's handler, change nothing."""
    handlers = [each for each in logging.getLogger().handlers if each.name == _BENTOML_HANDLER]
    for handler in handlers:
        handler.setFormatter(LogFormatter(formatter))
    if handlers:
        logging.captureWarnings(True)
        for name in _LOGGED_TWICE:
            logging.getLogger(name).propagate = False


def _current() -> Fields:
    context = request_context.get()
    return {} if context is None else ids_of(context)


def ids_of(context: RequestContext) -> Fields:
    """Return the fields that identify a request: its id, and the id of its trace if it has one."""
    if context.span is None:
        return {"request_id": context.id}
    return {"request_id": context.id, "trace_id": f"{context.span.get_span_context().trace_id:032x}"}


def _traceback(problem: BaseException) -> str:
    """Return a traceback without secrets and latents: its messages may quote what a client sent."""
    return "\n".join(clean(line) for part in _parts(problem) for line in _without_secrets(_cut(part)).splitlines())


def _parts(problem: BaseException) -> Iterable[str]:
    return traceback.TracebackException.from_exception(problem).format()


def _without_secrets(text: str) -> str:
    return _NUMBERS.sub("(numbers) ", _SECRET.sub(r"\1 (secret)", text))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
