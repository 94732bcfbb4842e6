"""Around all of the service: every request has an id, every answer tells it, and one line tells of both."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.engine import BatchReport, requester
from service.errors import ApiError
from service.journal.entry import Entry
from service.journal.ids import HEADER, request_id
from service.journal.lines import Fields, Form, clean, ids_of, write
from service.journal.spans import Tracing

logger = logging.getLogger("latentd.http")

_PROBES = {"/livez", "/readyz", "/healthz", "/metrics"}
"""Asked every few seconds: nobody needs to read, nor to trace, that all is well."""
_LONGEST_PATH = 200


class Journal:
    """The outermost ASGI app."""

    def __init__(self, app: ASGIApp, form: Form | None, tracing: Callable[[], Tracing | None]) -> None:
        """`form`: of the lines; None: there are none. `tracing` is asked at every request."""
        self._app = app
        self._form = form
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = Entry(request_id(scope["headers"]), scope["method"], scope["path"])
        tracing = None if entry.path in _PROBES else self._tracing()
        if tracing is not None:
            tracing.begin(entry, scope["headers"])
        working_for = requester.set(entry)
        try:
            await self._answer(entry, scope, receive, send)
        finally:
            requester.reset(working_for)
            if tracing is not None:
                tracing.end(entry)
            if self._form is not None and (entry.path not in _PROBES or entry.status >= 400):
                write(self._form(_line(entry, scope)))

    async def _answer(self, entry: Entry, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        header = (HEADER, entry.id.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, entry.status = True, message["status"]
                message = {**message, "headers": [*message.get("headers", ()), header]}
            elif message["type"] == "http.response.body":
                entry.sent_bytes += len(message.get("body", b""))
                entry.whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("%s %s failed", entry.method, entry.path[:_LONGEST_PATH])
            if not begun:
                problem = ApiError(500, "internal_server_error", "the service failed; its log says why")
                await problem.response()(scope, receive, send_with_id)


class EngineNotes:
    """An observer of the engine that enters into each request's entry what was done for it."""

    def batch_done(self, batch: BatchReport) -> None:
        seconds = batch.forward_seconds + (batch.copy_seconds or 0.0) + batch.encode_seconds
        for entry, waited in zip(batch.requesters, batch.waited_seconds, strict=True):
            if isinstance(entry, Entry):
                entry.batches.append((waited, seconds))


def _line(entry: Entry, scope: Scope) -> Fields:
    """What is not there is left out."""
    path = clean(entry.path[:_LONGEST_PATH])
    fields: Fields = {
        "time": datetime.now(UTC),
        "level": "info",
        "logger": "latentd.access",
        "message": f"{clean(entry.method)} {path} {entry.status}",
        **ids_of(entry),
        "endpoint": entry.endpoint,
        "status": entry.status,
    }
    if entry.code is not None:
        fields["code"] = entry.code
    if entry.model is not None:
        fields |= {"model": entry.model, "samples": entry.samples}
    if entry.batches:
        waits, computed = zip(*entry.batches, strict=True)
        fields |= {
            "queue_seconds": round(max(waits), 6),
            "compute_seconds": round(sum(computed), 6),
            "batches": len(computed),
        }
    fields["seconds"] = round(time.perf_counter() - entry.started, 6)
    fields["bytes"] = entry.sent_bytes
    if not entry.whole:
        fields["unfinished"] = True
    if scope.get("client"):
        fields["client"] = scope["client"][0]
    return fields
