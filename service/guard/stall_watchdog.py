"""A watchdog for connections whose clients stall: they send or read too slowly, or do nothing."""

import asyncio
import logging
from collections.abc import Hashable
from typing import Protocol

logger = logging.getLogger("latentd.guard")

_CHECK_SECONDS = 0.5


class WatchedConnection(Protocol):
    """What the watchdog needs to know about a connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def expected_from_client(self) -> tuple[Hashable, float] | None:
        """Return what the client must do next, and within how many seconds; None if it need not do anything.

        The first value changes as soon as the client makes progress.
        """
        ...

    def give_up(self) -> None:
        """Close the connection, because the client has not done what was expected."""
        ...


class StallWatchdog:
    """Checks all connections of a server twice per second. A timer for each one would slow down every request."""

    def __init__(self) -> None:
        self._expected: dict[WatchedConnection, tuple[Hashable, float]] = {}
        """For each connection: what its client must do, and since when."""
        self._running = False

    def add(self, connection: WatchedConnection) -> None:
        """Watch a new connection."""
        self._expected[connection] = None, connection.loop.time()
        if not self._running:
            self._running = True
            connection.loop.call_later(_CHECK_SECONDS, self._check_all, connection.loop)

    def remove(self, connection: WatchedConnection) -> None:
        """Stop watching a connection."""
        self._expected.pop(connection, None)

    def _check_all(self, loop: asyncio.AbstractEventLoop) -> None:
        closed = 0
        try:
            for connection in list(self._expected):
                try:
                    closed += self._check(connection, loop.time())
                except Exception:  # the other connections must still be checked
                    logger.exception("a connection could not be checked; it is closed")
                    self.remove(connection)
                    connection.transport.abort()
        finally:
            self._running = bool(self._expected)
            if self._running:
                loop.call_later(_CHECK_SECONDS, self._check_all, loop)
        if closed:
            logger.info("%d connections closed: their clients sent or read too slowly", closed)

    def _check(self, connection: WatchedConnection, now: float) -> bool:
        """Close the connection if its client is late. Return whether it was."""
        before, since = self._expected[connection]
        action, seconds = connection.expected_from_client() or (None, 0.0)
        if action != before:
            self._expected[connection] = action, now
        elif action is not None and now - since > seconds:
            connection.give_up()
            return True
        return False
