"""Limits on connections: the size of a request's head, and clients that send or read slowly.

The app sees a request when its headers are complete, and is done with an answer when it has handed it over. Before and
after that, uvicorn has only a timeout for idle connections. So a protocol class with limits replaces its own. BentoML
does not let a service choose the protocol, but uvicorn looks it up by name.
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
from latentd.service.guard.stall_watchdog import StallWatchdog

logger = logging.getLogger("latentd.guard")

_MAX_HEADERS = 100
_MAX_URL_BYTES = 8 * 2**10
_MAX_HEAD_BYTES = 32 * 2**10
_MAX_PIPELINED = 16
"""Requests that may wait on a connection for earlier answers. One packet can hold thousands."""
_MAX_CHUNK_OVERHEAD = 8
"""Bytes on the wire for one byte of a body. Even clients that send chunks of a few bytes stay below this."""
_LINGER_SECONDS = 5.0
"""How long the rest of a body is read and dropped after the answer. If the connection were closed at once, a client
that still sends would lose the answer."""
_LAST_REQUEST_SECONDS = 1.0
"""How long an idle connection stays open at shutdown, for a request that may already be on its way."""
_READ_STEP_BYTES = 256 * 2**10
"""A client must read this much of its answer within the send timeout."""


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of one connection."""

    receive: float
    """Seconds to send the headers of a request."""
    send: float
    """Seconds to read 256 KiB of an answer."""
    body: int
    """Bytes of a body."""


def guard_connections(limits: ConnectionLimits, on_refused: Callable[[str], None]) -> None:
    """Limit the connections of all servers that uvicorn starts in this process from now on.

    `on_refused` is called with the error code of each refused head, because no request comes of it that is counted.
    """
    members = {"limits": limits, "on_refused": staticmethod(on_refused), "watchdog": StallWatchdog()}
    protocol = type("LimitedProtocol", (_LimitedProtocol,), members)
    HTTP_PROTOCOLS["auto"] = protocol  # type: ignore[assignment]  # uvicorn takes a class as well as its name


class _Refusal(Exception):
    """The reason why a head is refused."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


_MALFORMED = _Refusal(400, "invalid_request", "this is not an HTTP request")
_LARGE_HEAD = _Refusal(
    431, "headers_too_large", f"a request may have {_MAX_HEADERS} headers, and {_MAX_HEAD_BYTES} bytes of head"
)
_LONG_URL = _Refusal(414, "uri_too_long", f"the URL is longer than {_MAX_URL_BYTES} bytes")
_PIPELINED = _Refusal(429, "too_many_requests", f"more than {_MAX_PIPELINED} requests wait on this connection")
_TUNNEL = _Refusal(400, "invalid_request", "this server is no proxy")
_SLOW_HEAD = _Refusal(408, "request_timeout", "the headers did not come in time")


class _Parser(httptools.HttpRequestParser):
    """Ignores `Upgrade` headers, as RFC 9110 (section 7.8) allows. The request is answered in HTTP/1.1.

    httptools would stop at such a request, ignore its body, and take the bytes after it for another protocol.
    """

    def __init__(self, protocol: "_LimitedProtocol") -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._protocol = protocol

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn only feeds bytes
        rest, parser = memoryview(data), self
        while rest:  # one packet may hold several requests with such a header
            try:
                httptools.HttpRequestParser.feed_data(parser, rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest, parser = rest[upgrade.args[0] :], self._protocol.restart_without_upgrade()
            else:
                return


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits."""

    limits: ConnectionLimits
    on_refused: Callable[[str], None]
    watchdog: StallWatchdog

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = _Parser(self)
        self._packet_bytes = 0
        """Bytes of the packet that is being parsed."""
        self._request_bytes = 0
        """Bytes of earlier packets that belong to the incomplete request."""
        self._resumed = 0
        """How often the client has emptied the write buffer."""
        self._refusal = _MALFORMED
        """The refusal that `send_400_response` sends."""
        self._running: RequestResponseCycle | None = None
        """The request that the app is working on."""
        self._shutting_down = False
        self._read_closed = False
        """Whether no more data are read. The connection is closed after the last answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.watchdog.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells only the last of several pipelined requests
            self._running.disconnected = True
            self._running.message_event.set()
        self.watchdog.remove(self)

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def restart_without_upgrade(self) -> _Parser:
        """Parse the current head again without its `Upgrade` header. Return the parser for what follows."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = parser = _Parser(self)
        parser.feed_data(b"\r\n".join((*lines, b"", b"")))
        return parser

    def data_received(self, data: bytes) -> None:
        if self._read_closed:
            return
        self._packet_bytes = len(data)
        super().data_received(data)
        if self._in_head:
            self._request_bytes += len(data)
            if self._request_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(_LONG_URL if not self.headers and len(self.url) > _MAX_URL_BYTES else _LARGE_HEAD)
        elif self.cycle is not None and self.cycle.more_body:
            self._request_bytes += len(data)
            if self._request_bytes > _MAX_HEAD_BYTES + _MAX_CHUNK_OVERHEAD * self.limits.body:
                self.transport.abort()  # tiny chunks, or endless trailers
        else:
            self._request_bytes = 0

    def on_headers_complete(self) -> None:
        if self._request_bytes + self._packet_bytes > _MAX_URL_BYTES:
            self._check_head_size()
        if len(self.headers) > _MAX_HEADERS:
            self._refuse_in_parser(_LARGE_HEAD)
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse_in_parser(_PIPELINED)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse_in_parser(_TUNNEL)
            return  # restart_without_upgrade parses this head again
        self._request_bytes = 0
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # a client of HTTP/1.0 would take it for the answer (RFC 9110, 10.1.1)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        cycle.keep_alive = cycle.keep_alive and not self._shutting_down
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        self._shutting_down = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LAST_REQUEST_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    @property
    def _in_head(self) -> bool:
        """Whether a part of a request's head has arrived."""
        return self.scope is not None and (self.cycle is None or self.scope is not self.cycle.scope)

    def expected_from_client(self) -> tuple[Hashable, float] | None:
        buffered = self.transport.get_write_buffer_size()
        if buffered:
            return ("read", buffered // _READ_STEP_BYTES, self._resumed), self.limits.send
        if self._read_closed:
            return None
        if self.cycle is None:
            return "send a head", self.limits.receive
        if not self.cycle.response_complete:
            return None  # the app works or reads the body, and has timeouts of its own
        if self.cycle.more_body:
            return ("end the body", id(self.cycle)), _LINGER_SECONDS
        if (
            self._in_head or self.timeout_keep_alive_task is None
        ):  # without that task, bytes have arrived that are no request
            return ("send a head", id(self.cycle)), self.limits.receive
        return None  # uvicorn's timeout for idle connections runs

    def give_up(self) -> None:
        if self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()
        elif self._in_head:
            self._refuse(_SLOW_HEAD)
        else:
            self.transport.close()

    def _check_head_size(self) -> None:
        if len(self.url) > _MAX_URL_BYTES:
            self._refuse_in_parser(_LONG_URL)
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD_BYTES:
            self._refuse_in_parser(_LARGE_HEAD)

    def _refuse_in_parser(self, refusal: _Refusal) -> None:
        """Leave the parser, so that uvicorn calls `send_400_response`."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, refusal: _Refusal) -> None:
        """Answer the current head with `refusal`, and close the connection."""
        type(self).on_refused(refusal.code)
        address = self.client[0] if self.client else "a client"
        if self.pipeline:  # the client would think that the refusal answers an earlier request
            logger.info("the connection of %s ends after %d answers: %s", address, len(self.pipeline) + 1, refusal)
            self._read_closed = True
            self.pipeline[0][0].keep_alive = False  # the last request that arrived
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
