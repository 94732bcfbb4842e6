"""The outermost middleware. It gives every request a context, and reports the request when it is over."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latentd.service.context import RequestContext, request_context
from latentd.service.engine import BatchReport
from latentd.service.guard.headers import security_headers
from latentd.service.json_responses import error_response, status_error
from latentd.service.observability.access_log import MAX_PATH, AccessLog
from latentd.service.observability.formatter import Formatter
from latentd.service.observability.ids import HEADER, request_id
from latentd.service.runtime import Runtime

logger = logging.getLogger("latentd.http")

_PROBES = {"/livez", "/readyz", "/healthz", "/metrics"}
"""Paths that are requested every few seconds. They are not traced, and logged only if they fail."""


class RequestMiddleware:
    """Adds the id and the security headers to every answer, and reports each request to metrics, log and traces.

    The wrapped app writes into the context what it learns about the request. If it raises, the answer is a 500.
    """

    def __init__(self, app: ASGIApp, runtime: Callable[[], Runtime], formatter: Formatter | None = None) -> None:
        """`runtime` is called for every request. `formatter`: the format of the access log; None: no access log."""
        self._app = app
        self._runtime = runtime
        self._log = None if formatter is None else AccessLog(formatter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        context = RequestContext(
            request_id(scope["headers"]), scope["method"], scope["path"], address=peer[0] if peer else None
        )
        tracing = None if context.path in _PROBES else self._runtime().tracing
        if tracing is not None:
            tracing.begin(context, scope["headers"])
        token = request_context.set(context)
        try:
            await self._answer(context, scope, receive, send)
        finally:
            request_context.reset(token)
            context.ended, context.seconds = datetime.now(UTC), time.monotonic() - context.started
            self._report(context)

    async def _answer(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        added = [*security_headers(context.path), (HEADER, context.id.encode())]

        async def send_and_record(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, context.status = True, message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            elif message["type"] == "http.response.body":
                context.sent_bytes += 0 if context.method == "HEAD" else len(message.get("body", b""))
                context.sent_completely = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        except Exception:
            logger.exception("%s %s failed", context.method, context.path[:MAX_PATH])
            if begun:
                context.status = HTTPStatus.INTERNAL_SERVER_ERROR  # for the reports; the client has got another status
            else:
                await error_response(status_error(500))(scope, receive, send_and_record)

    def _report(self, context: RequestContext) -> None:
        """Report a request that is over."""
        telemetry, tracing = self._runtime().telemetry, self._runtime().tracing
        if context.route is not None:
            model = (context.model or "").partition("@")[0]
            telemetry.count_request(context.route, model, context.status, context.seconds)
        if tracing is not None:
            tracing.end(context)
        if self._log is not None and (context.path not in _PROBES or context.status >= HTTPStatus.BAD_REQUEST):
            self._log.add(context)


class EngineTimings:
    """An observer of the engine that writes into each request's context how long its batches took."""

    def batch_done(self, batch: BatchReport) -> None:
        seconds = batch.forward_seconds + (batch.copy_seconds or 0.0) + batch.encode_seconds
        for context, waited in zip(batch.contexts, batch.waited_seconds, strict=True):
            if context is not None:
                context.batches.append((waited, seconds))
