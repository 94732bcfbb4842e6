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

_LAST_ANSWERS_SECONDS = 2.0
"""For writing the answers of requests that the end of the grace period has failed."""
_ACCEPT_SECONDS = 0.5
"""For connections that were made before; a flood of new ones may not put the end off for longer."""
_LOOK_SECONDS = 0.001


def drain_on_signal(engine: Engine, seconds: float) -> None:
    """Once told to stop, refuse new connections and give requests `seconds` to finish, for which uvicorn has no end."""
    if threading.current_thread() is not threading.main_thread():
        return  # in-process use: signals are the host's
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _draining(engine, seconds, signal.getsignal(number), told))


def _draining(
    engine: Engine, seconds: float, before: Any, told: threading.Event
) -> Callable[[int, FrameType | None], None]:
    server = getattr(before, "__self__", None)

    def stop(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            if callable(before):
                before(
                    number, frame
                )  # Ctrl-C comes from the terminal and from BentoML's parent process; twice, it forces
            return
        told.set()
        logger.info("told to stop; requests have %g seconds to finish", seconds)
        _after(seconds, engine.abort)
        if not callable(before):
            return
        # a client that neither sends nor reads would be waited for without end; told so again, the server leaves it
        _after(seconds + _LAST_ANSWERS_SECONDS, lambda: before(signal.SIGINT, None))
        if isinstance(server, uvicorn.Server) and server.started:
            stopping = _refuse_connections(server.servers, lambda: before(signal.SIGTERM, frame))
            asyncio.run_coroutine_threadsafe(stopping, server.servers[0].get_loop())
        else:
            before(number, frame)

    return stop


def _after(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


async def _refuse_connections(listeners: list[asyncio.Server], then: Callable[[], None]) -> None:
    """Take the connections that were made, refuse those that come, and go on with `then`.

    BentoML's parent process has the listening socket too, and keeps it until this process is gone. Connections would
    still be made, nobody would read them, and in the end they would be reset: a balancer would wait for that with every
    request that it sends here. What is shut down, and not only closed, is so for all processes.
    """
    try:
        sockets = [each.dup() for listener in listeners for each in listener.sockets]
        with suppress(TimeoutError):
            async with asyncio.timeout(_ACCEPT_SECONDS):
                while _has_connections(sockets):  # noqa: ASYNC110  # the loop takes one after the other, and says nothing
                    await asyncio.sleep(_LOOK_SECONDS)
        for listener in listeners:
            listener.close()
        for each in sockets:
            with each, suppress(OSError):  # only Linux can
                each.shutdown(socket.SHUT_RDWR)
    except OSError:  # no file descriptor is left
        logger.exception("new connections are not refused while the service stops")
    finally:
        then()


def _has_connections(sockets: list[socket.socket]) -> bool:
    """Whether there are any that were not taken."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
