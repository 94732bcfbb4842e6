"""Whose request is worked on next: where several clients ask, one that asks a lot at a time waits for itself.

The engine shares batches, but before and after them a request waits for the event loop behind all others that are
there: a client that has a thousand under way would make everybody wait for a thousand. So clients that are not alone
have a few under way each. Reading bodies and writing answers takes no turn: whoever is slow at it holds up nobody.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from http import HTTPStatus

from service.errors import ApiError

_AT_A_TIME = 4
"""Requests of a client that is not alone. One that floods with the smallest then has about half of the throughput that
it has alone, and the others' 99th percentile is about twice what it is without the flood (docs/performance.md)."""
_ALONE_SECONDS = 5.0
"""Without any other client's request, until a client is alone."""
_REFUSAL_SECONDS = 0.1
"""What a refusal takes of a turn where the client is not alone: asked again at once, the event loop would do nothing
else."""


class Turns:
    """Not safe for threads: for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._last: tuple[Hashable, float] = None, -math.inf
        """The client that asked last, and when."""
        self._other = -math.inf
        """When anybody else did."""

    @asynccontextmanager
    async def turn(self, client: Hashable) -> AsyncIterator[None]:
        """The block runs in one of the client's turns."""
        self._seen(client)
        if client in self._waiting or not self._may(client):
            await self._wait(client)
        else:
            self._under_way[client] += 1
        try:
            yield
        except ApiError as problem:
            if problem.status == HTTPStatus.TOO_MANY_REQUESTS and not self._alone(client):
                await asyncio.sleep(_REFUSAL_SECONDS)
            raise
        finally:
            self._leave(client)

    def _seen(self, client: Hashable) -> None:
        now = self._clock()
        last, when = self._last
        if client != last:
            self._other = when
        self._last = client, now

    def _may(self, client: Hashable) -> bool:
        return self._under_way[client] < _AT_A_TIME or self._alone(client)

    def _alone(self, client: Hashable) -> bool:
        last, when = self._last
        return self._clock() - (self._other if client == last else when) > _ALONE_SECONDS

    async def _wait(self, client: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave(client)  # it had come, and is the next one's
            raise

    def _leave(self, client: Hashable) -> None:
        self._under_way[client] -= 1
        waiting = self._waiting.get(client, ())
        while waiting and self._may(client):
            turn = waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._under_way[client] += 1
        if not waiting:
            self._waiting.pop(client, None)
        if not self._under_way[client]:
            del self._under_way[client]
