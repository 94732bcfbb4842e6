"""What happens between SIGTERM and the last answer."""

import asyncio
import logging
import selectors
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from latentd.service.engine import Engine

logger = logging.getLogger("latentd.service")

_Handler = Callable[[int, FrameType | None], None]

_LAST_ANSWERS_SECONDS = 2.0
"""Time to send the answers of requests that are failed at the end of the drain."""
_ACCEPT_SECONDS = 0.5
"""Time to accept connections that were made before the signal. A flood of new ones must not delay the end longer."""
_POLL_SECONDS = 0.001


def drain_on_signal(engine: Engine, seconds: float) -> None:
    """On SIGTERM or SIGINT, refuse new connections and give requests `seconds` to finish. uvicorn has no such limit."""
    if threading.current_thread() is not threading.main_thread():
        return  # the service runs inside another program, which has its own handlers
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _draining(engine, seconds, signal.getsignal(number), stopping))


def _draining(engine: Engine, seconds: float, previous: Any, stopping: threading.Event) -> _Handler:
    """Return a signal handler that drains, and then calls the `previous` one."""
    server = getattr(previous, "__self__", None)

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            if callable(previous):
                # The second signal forces the end. Ctrl-C comes twice: from the terminal, and from BentoML's parent.
                previous(number, frame)
            return
        stopping.set()
        logger.info("told to stop; requests have %g seconds to finish", seconds)
        _after(seconds, engine.abort)
        if not callable(previous):
            return
        # uvicorn waits without end for a client that neither sends nor reads; a second signal ends that
        _after(seconds + _LAST_ANSWERS_SECONDS, lambda: previous(signal.SIGINT, None))
        if isinstance(server, uvicorn.Server) and server.started:
            refusing = _refuse_connections(server.servers, lambda: previous(signal.SIGTERM, frame))
            asyncio.run_coroutine_threadsafe(refusing, server.servers[0].get_loop())
        else:
            previous(number, frame)

    return stop


def _after(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


async def _refuse_connections(listeners: list[asyncio.Server], then: Callable[[], None]) -> None:
    """Accept the connections that were made before the signal, refuse new ones, and call `then`.

    BentoML's parent process has the listening socket too, until this process ends. If this process only closed it, the
    system would still accept connections, nobody would read them, and in the end they would be reset. A load balancer
    would wait for that with every request that it sends here. A shutdown of the socket affects all processes.
    """
    try:
        sockets = [each.dup() for listener in listeners for each in listener.sockets]
        with suppress(TimeoutError):
            async with asyncio.timeout(_ACCEPT_SECONDS):
                while _has_connections(sockets):  # noqa: ASYNC110  # the event loop accepts them, and tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        for listener in listeners:
            listener.close()
        for each in sockets:
            with each, suppress(OSError):  # only Linux can
                each.shutdown(socket.SHUT_RDWR)
    except OSError:  # there is no file descriptor left
        logger.exception("new connections are not refused while the service stops")
    finally:
        then()


def _has_connections(sockets: list[socket.socket]) -> bool:
    """Return whether a connection was made that is not accepted yet."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
