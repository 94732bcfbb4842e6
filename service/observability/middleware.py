"""Neighborhood all of the service: every request has an id, every answer tells it, and one line tells of both."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.service.context import RequestContext, request_context
from latentd.service.engine import BatchReport
from latentd.service.errors import ApiError
from latentd.service.observability.access import MAX_PATH, AccessLog
from latentd.service.observability.formatter import Formatter
from latentd.service.observability.ids import HEADER, request_id
from latentd.service.observability.spans import Tracing
from latentd.service.responses import error_response

logger = logging.getLogger("latentd.http")

_PROBES = {"/livez", "/readyz", "/healthz", "/metrics"}
"""Asked every few seconds: nobody needs to read, nor to trace, that all is well."""


class Journal:
    """An ASGI app around the one that serves; what breaks that one is answered here."""

    def __init__(self, app: ASGIApp, form: Formatter | None, tracing: Callable[[], Tracing | None]) -> None:
        """`form`: of the lines; None: there are none. `tracing` is asked at every request."""
        self._app = app
        self._log = None if form is None else AccessLog(form)
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(request_id(scope["headers"]), scope["method"], scope["path"])
        if peer := scope.get("client"):
            context.address = peer[0]
        tracing = None if context.path in _PROBES else self._tracing()
        if tracing is not None:
            tracing.begin(context, scope["headers"])
        working_for = request_context.set(context)
        try:
            await self._answer(context, scope, receive, send)
        finally:
            request_context.reset(working_for)
            if tracing is not None:
                tracing.end(context)
            context.ended, context.seconds = datetime.now(UTC), time.perf_counter() - context.started
            if self._log is not None and (context.path not in _PROBES or context.status >= HTTPStatus.BAD_REQUEST):
                self._log.add(context)

    async def _answer(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        header = (HEADER, context.id.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, context.status = True, message["status"]
                message = {**message, "headers": [*message.get("headers", ()), header]}
            elif message["type"] == "http.response.body":
                context.sent_bytes += 0 if context.method == "HEAD" else len(message.get("body", b""))
                context.whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("%s %s failed", context.method, context.path[:MAX_PATH])
            if not begun:
                problem = ApiError(500, "internal_server_error", "the service failed; its log says why")
                await error_response(problem)(scope, receive, send_with_id)


class EngineTimings:
    """An observer of the engine that notes in each request's context how long its batches took."""

    def batch_done(self, batch: BatchReport) -> None:
        seconds = batch.forward_seconds + (batch.copy_seconds or 0.0) + batch.encode_seconds
        for context, waited in zip(batch.contexts, batch.waited_seconds, strict=True):
            if context is not None:
                context.batches.append((waited, seconds))
