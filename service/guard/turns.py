"""Whose request is worked on next: where several clients ask, one that asks a lot at a time waits for itself.

The engine shares batches, but before and after them a request waits for the event loop behind all others that are
there: a client that has a thousand under way would make everybody wait for a thousand. So a client that is not alone
has a few more under way than any other. Reading bodies and writing answers takes no turn: whoever is slow at it holds
up nobody.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from latentd.service.errors import ApiError

_MORE = 4
"""Requests that a client may have at work beyond those that any other has there or waiting. One that floods with the
smallest, beside one with hardly any, has about half of the throughput that it has alone, and the other's 99th
percentile is about twice what it is without the flood (docs/performance.md)."""
_MOST = 32
"""Requests that a client may have at work, whatever the others have: several that flood must not lift each other."""
_ALONE_SECONDS = 1.0
"""Without any other client's request, until a client is alone."""
_REFUSAL_SECONDS = 0.1
"""For so long a refusal takes a turn, though it is answered at once, where the client is not alone: asked again each
time, the event loop would do nothing else. What is refused without a turn is answered at the same rate."""
_LATEST_REFUSAL_SECONDS = 30.0
"""Beyond, a refusal is answered at once: those that wait take memory."""
_STUCK_SECONDS = 1.0
"""Where none of a client's turns has ended for so long, a few more begin: what they wait for is a model, a film or the
device, and not the event loop."""


class Turns:
    """Not safe for threads: for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at_work: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._looks: dict[Hashable, asyncio.TimerHandle] = {}
        """Of clients that have requests waiting: when to look whether they are stuck."""
        self._refusals: dict[Hashable, float] = {}
        """When each client's last refusal is answered."""
        self._last: tuple[Hashable, float] = None, -math.inf
        """The client that asked last, and when."""
        self._other = -math.inf
        """When anybody else did."""

    @asynccontextmanager
    async def turn(self, client: Hashable) -> AsyncIterator[None]:
        """The block runs in one of the client's turns, which a refusal (ApiError 429) takes for a while longer."""
        await self._enter(client)
        refused = False
        try:
            yield
        except ApiError as problem:
            refused = problem.status == HTTPStatus.TOO_MANY_REQUESTS
            raise
        finally:
            if refused:
                self._leave_later(client)
            else:
                self._leave(client)

    async def refuse(self, client: Hashable) -> None:
        """Wait until a request that gets no turn may be refused."""
        self._seen(client)
        now = self._clock()
        due = max(now, self._refusals.get(client, now)) + _REFUSAL_SECONDS / _MORE
        if not self._alone(client) and due - now <= _LATEST_REFUSAL_SECONDS:
            self._refusals[client] = due
            await asyncio.sleep(due - now)

    async def _enter(self, client: Hashable) -> None:
        self._seen(client)
        if client in self._waiting or not self._may(client):
            await self._wait(client)
        else:
            self._at_work[client] += 1

    def _leave_later(self, client: Hashable) -> None:
        if self._alone(client):
            self._leave(client)
        else:
            asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self._leave, client)

    def _seen(self, client: Hashable) -> None:
        now = self._clock()
        last, when = self._last
        if client != last:
            self._other = when
        self._last = client, now

    def _may(self, client: Hashable) -> bool:
        at_work = self._at_work[client]
        if at_work < _MORE or self._alone(client):
            return True
        return at_work < _MOST and at_work < _MORE + self._most_of_others(client)

    def _alone(self, client: Hashable) -> bool:
        last, when = self._last
        return self._clock() - (self._other if client == last else when) > _ALONE_SECONDS

    def _most_of_others(self, client: Hashable) -> int:
        return max(
            (
                at_work + len(self._waiting.get(other, ()))
                for other, at_work in self._at_work.items()
                if other != client
            ),
            default=0,
        )

    async def _wait(self, client: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(client, deque())
        waiting.append(turn)
        if len(waiting) == 1:
            self._look_later(client)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # it was passed over
                    waiting.remove(turn)
                self._tidy(client)
            else:
                self._leave(client)  # it had come, and is the next one's
            raise

    def _look_later(self, client: Hashable) -> None:
        """In a while, unless a turn ends before that."""
        if client in self._looks:
            self._looks[client].cancel()
        self._looks[client] = asyncio.get_running_loop().call_later(_STUCK_SECONDS, self._is_stuck, client)

    def _is_stuck(self, client: Hashable) -> None:
        self._look_later(client)
        self._begin(client, anyway=_MORE)

    def _leave(self, client: Hashable) -> None:
        self._at_work[client] -= 1
        if client in self._waiting:
            self._look_later(client)
            self._begin(client)
        if not self._at_work[client]:
            del self._at_work[client]

    def _begin(self, client: Hashable, anyway: int = 0) -> None:
        """Give those that wait their turns; the first `anyway` of them whatever others do."""
        waiting = self._waiting[client]
        while waiting and (anyway or self._may(client)):
            turn = waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._at_work[client] += 1
                anyway = max(0, anyway - 1)
        self._tidy(client)

    def _tidy(self, client: Hashable) -> None:
        if not self._waiting.get(client, True):
            del self._waiting[client]
            self._looks.pop(client).cancel()
