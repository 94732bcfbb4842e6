"""What a connection may cost before there is a request, and after there is an answer.

An app sees a request once its headers are there, and an answer is over for it once it is handed on. What lies before
and after is uvicorn's, which has a timeout for idle connections and none for clients that send or read too slowly, nor
a limit for headers. BentoML lets nobody choose uvicorn's protocol, but uvicorn looks it up by name.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from latentd.service.guard.headers import FOR_API

logger = logging.getLogger("latentd.guard")

_MOST_HEADERS = 100
_URL_BYTES = 8 * 2**10
_HEAD_BYTES = 32 * 2**10
_MOST_AT_ONCE = 16
"""Requests that may wait on a connection for the answer to one before: what comes in a packet is parsed in one go."""
_CHUNKING = 8
"""Bytes on the wire for one of a body, at most, in chunks that are no attack."""
_LINGER_SECONDS = 5.0
"""For reading and dropping what a client still sends of a request that has its answer: closed at once, a connection
takes the answer along."""
_LAST_CALL_SECONDS = 1.0
"""For a request on an idle connection whose client does not know yet that this is the end."""
_LOOK_SECONDS = 0.5
_STEP_BYTES = 256 * 2**10


@dataclass(frozen=True)
class ConnectionLimits:
    """How long a client may take, in seconds, and how much it may send, in bytes."""

    receive: float
    send: float
    body: int


def guard_connections(patience: ConnectionLimits, refused: Callable[[str], None]) -> None:
    """Servers that uvicorn starts in this process from now on have guarded connections.

    `refused` is told the code of each head that is not read on: there is no request yet that would be counted.
    """
    members = {"patience": patience, "refused": staticmethod(refused), "watch": StallWatchdog()}
    guarded = type("GuardedProtocol", (_Guarded,), members)
    HTTP_PROTOCOLS["auto"] = guarded  # type: ignore[assignment]  # a class is taken as well as its name


class _Refused(Exception):
    """A head that is not read on."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


_MALFORMED = _Refused(400, "invalid_request", "this is not HTTP")
_LARGE_HEAD = _Refused(
    431, "headers_too_large", f"headers are at most {_MOST_HEADERS}, and {_HEAD_BYTES} bytes with the URL"
)
_LONG_URL = _Refused(414, "uri_too_long", f"the URL is longer than {_URL_BYTES} bytes")
_PIPELINED = _Refused(
    429, "too_many_requests", f"more than {_MOST_AT_ONCE} requests wait on this connection for an answer"
)
_TUNNEL = _Refused(400, "invalid_request", "this is no proxy")
_SLOW_HEAD = _Refused(408, "request_timeout", "the headers did not come in time")


class _Parser(httptools.HttpRequestParser):
    """Stays with HTTP, as RFC 9110 (section 7.8) leaves it to a server, whatever `Upgrade` asks for.

    httptools takes such a request for one without a body, and what follows for another protocol, or the next request.
    """

    def __init__(self, protocol: "_Guarded") -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._protocol = protocol

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn feeds nothing else
        rest, parser = memoryview(data), self
        while rest:  # requests sent at once may all have such a wish
            try:
                httptools.HttpRequestParser.feed_data(parser, rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest, parser = rest[upgrade.args[0] :], self._protocol.begin_without_upgrade()
            else:
                return


class _Guarded(HttpToolsProtocol):
    """uvicorn's own protocol, with ends to everything that it would wait for or keep."""

    patience: ConnectionLimits
    refused: Callable[[str], None]
    watch: "StallWatchdog"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = _Parser(self)
        self._packet = 0
        self._unfinished = 0
        """Bytes that have come of a request that is not there as a whole, but for the last packet."""
        self._drained = 0
        self._refusal = _MALFORMED
        self._answered: RequestResponseCycle | None = None
        self._ending = False
        self._deaf = False
        """Whether nothing more is read, and the connection closed after the last answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells the last request of several that were sent at once, and no other
            self._answered.disconnected = True
            self._answered.message_event.set()
        self.watch.remove(self)

    def _should_upgrade_to_ws(self) -> bool:
        return False  # nobody here speaks it, and another protocol would have none of these limits

    def begin_without_upgrade(self) -> _Parser:
        """What parses on once it had the headers that have just come, without their wish for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = parser = _Parser(self)
        parser.feed_data(b"\r\n".join((*lines, b"", b"")))
        return parser

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._packet = len(data)
        super().data_received(data)
        if self._in_head:
            self._unfinished += len(data)
            if self._unfinished > _HEAD_BYTES and not self.transport.is_closing():
                self._refuse(_LONG_URL if not self.headers and len(self.url) > _URL_BYTES else _LARGE_HEAD)
        elif self.cycle is not None and self.cycle.more_body:
            self._unfinished += len(data)
            if self._unfinished > _HEAD_BYTES + _CHUNKING * self.patience.body:  # chunks of nothing, endless trailers
                self.transport.abort()
        else:
            self._unfinished = 0

    def on_headers_complete(self) -> None:
        if self._unfinished + self._packet > _URL_BYTES:
            self._check_head()
        if len(self.headers) > _MOST_HEADERS:
            self._raise(_LARGE_HEAD)
        if len(self.pipeline) >= _MOST_AT_ONCE:
            self._raise(_PIPELINED)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._raise(_TUNNEL)
            return  # it begins once more
        self._unfinished = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        cycle.keep_alive = cycle.keep_alive and not self._ending
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            # closed at once, it would take a request along that has come and was not read yet
            self.loop.call_later(_LAST_CALL_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def resume_writing(self) -> None:
        self._drained += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    @property
    def _in_head(self) -> bool:
        """Whether a request has begun whose headers are not all there."""
        return self.scope is not None and (self.cycle is None or self.scope is not self.cycle.scope)

    def waits_for(self) -> tuple[Hashable, float] | None:
        """What the client has to do, as something that changes once it does, and the seconds that it has for it."""
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            return ("take", waiting // _STEP_BYTES, self._drained), self.patience.send
        if self._deaf:
            return None
        if self.cycle is None:
            return "begin", self.patience.receive
        if not self.cycle.response_complete:
            return None  # the app is at work, or reads the body; it has timeouts of its own
        if self.cycle.more_body:
            return ("stop", id(self.cycle)), _LINGER_SECONDS
        if self._in_head or self.timeout_keep_alive_task is None:  # or bytes came that begin no request
            return ("begin", id(self.cycle)), self.patience.receive
        return None  # uvicorn's timeout for idle connections runs

    def give_up(self) -> None:
        """The client has not done it."""
        if self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()
        elif self._in_head:
            self._refuse(_SLOW_HEAD)
        else:
            self.transport.close()

    def _check_head(self) -> None:
        if len(self.url) > _URL_BYTES:
            self._raise(_LONG_URL)
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _HEAD_BYTES:
            self._raise(_LARGE_HEAD)

    def _raise(self, refusal: _Refused) -> None:
        """Out of the parser, which then has uvicorn send what `send_400_response` says."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, refusal: _Refused) -> None:
        type(self).refused(refusal.code)
        address = self.client[0] if self.client else "a client"
        if self.pipeline:  # this would be taken for the answer to another request
            logger.info("%s is closed after %d answers: %s", address, len(self.pipeline) + 1, refusal)
            self._deaf = True
            self.pipeline[0][0].keep_alive = False  # the last that came
            return
        logger.info("%s was answered %d %s: %s", address, refusal.status, refusal.code, refusal)
        body = orjson.dumps({"error": {"code": refusal.code, "message": str(refusal), "field": None}})
        headers = [
            *self.server_state.default_headers,
            *FOR_API,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %s" % (refusal.status, HTTPStatus(refusal.status).phrase.encode())]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join((*lines, b"", body)))
        self.transport.close()


class StallWatchdog:
    """Looks at all connections of a server now and then: a timer each would cost every request."""

    def __init__(self) -> None:
        self._since: dict[_Guarded, tuple[Hashable, float]] = {}
        self._looking = False

    def add(self, connection: _Guarded) -> None:
        self._since[connection] = None, connection.loop.time()
        if not self._looking:
            self._looking = True
            connection.loop.call_later(_LOOK_SECONDS, self._look, connection.loop)

    def remove(self, connection: _Guarded) -> None:
        self._since.pop(connection, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        left = 0
        try:
            for connection in list(self._since):
                try:
                    left += self._look_at(connection, loop.time())
                except Exception:  # and the others are still to be looked at
                    logger.exception("a connection could not be looked at; it is closed")
                    self.remove(connection)
                    connection.transport.abort()
        finally:
            self._looking = bool(self._since)
            if self._looking:
                loop.call_later(_LOOK_SECONDS, self._look, loop)
        if left:
            logger.info("%d connections closed, whose clients sent or read too slowly", left)

    def _look_at(self, connection: _Guarded, now: float) -> bool:
        """Whether it was given up."""
        before, since = self._since[connection]
        task, seconds = connection.waits_for() or (None, 0.0)
        if task != before:
            self._since[connection] = task, now
        elif task is not None and now - since > seconds:
            connection.give_up()
            return True
        return False
