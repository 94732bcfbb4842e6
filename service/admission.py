"""Which requests the service accepts: three budgets that clients share, and the limits of each client's token.

A request gets a `Ticket` and takes what it needs through it: memory for its body, a place among the requests in
progress, and places in the queue for its samples. If something does not fit, the request is refused with ApiError 429,
before its body is read if possible.

Clients are told apart by their tokens. Without tokens, all requests have the client None, which may use everything.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Self

from latentd.service.errors import ApiError, too_busy
from latentd.service.guard.client import Client

_MAX_HELD_TO_FREE = 7
"""A client may hold at most this many times what is free."""
_MAX_AT_WORK = 8
"""Requests of one client that are at work at the same time, while other clients send requests too. If one client floods
the service, this limits how long the requests of others wait for the event loop (docs/performance.md)."""
_ALONE_SECONDS = 1.0
"""A client is alone if no other client has sent a request for this long."""
_REFUSAL_SECONDS = (0.5, 1.5)
"""The shortest and the longest delay of a refusal. It is random, so that refused clients do not come again together."""
_MAX_BODIES = 16
"""Bodies of the largest size that may be in memory at the same time. Most bodies are small, so that hundreds fit."""
_BUSY = "the service has all the work that it can take, in total or from one client; try again later"


class Quota:
    """An amount that clients share with dynamic thresholds: a client may hold at most 7 times what is free.

    So clients that take all that they can get hold equal parts, a client that is alone gets 7/8, and a new client
    always finds some free. After Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet
    Switches", 1998.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._held: Counter[Hashable] = Counter()

    def shortfall(self, client: Hashable, amount: int) -> int:
        """Return how much must be given back before `client` may take `amount`; 0 if it may take it now."""
        free = self.size - self.used - amount
        held = self._held[client]
        if client is None or not held:
            return max(0, -free)
        excess = held + amount - _MAX_HELD_TO_FREE * free
        return max(
            0, -free, -(-excess // (_MAX_HELD_TO_FREE + 1))
        )  # what the client gives back lowers `held` and raises `free`

    def take(self, client: Hashable, amount: int) -> int:
        """Take `amount` and return 0. If it does not fit, take nothing and return the shortfall."""
        shortfall = self.shortfall(client, amount)
        if not shortfall:
            self.used += amount
            self._held[client] += amount
        return shortfall

    def give_back(self, client: Hashable, amount: int) -> None:
        """Give back a part of what `client` took."""
        self.used -= amount
        self._held[client] -= amount
        if not self._held[client]:
            del self._held[client]


class ConcurrencyLimiter:
    """Limits how many requests of a client are at work, unless the client is alone.

    The engine forms fair batches. But before and after the engine, the event loop serves requests in the order in which
    they came: a client with a thousand requests there would delay everybody. A client that is alone has no limit,
    because large batches need many small requests. Requests that wait begin in the order in which they came.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: defaultdict[Hashable, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MAX_AT_WORK))
        self._last: tuple[Hashable, float] = None, -_ALONE_SECONDS
        """The client that sent the last request, and when."""
        self._other = -_ALONE_SECONDS
        """When any other client sent its last request."""

    @asynccontextmanager
    async def slot(self, client: Hashable) -> AsyncIterator[None]:
        """Wait until a request of `client` may be at work. It counts as at work until the block ends."""
        if self.is_alone(client):
            yield
        else:
            async with self._slots[client]:
                yield

    def is_alone(self, client: Hashable) -> bool:
        """Record a request of `client`. Return whether no other client has sent one within a second."""
        now = self._clock()
        last, when = self._last
        if client != last:
            self._other = when
        self._last = client, now
        return now - self._other > _ALONE_SECONDS


class Ticket:
    """What one request holds until the end of its `with` block.

    `body`, `work` and `samples` raise ApiError 429 if the client may not have this now.
    """

    def __init__(self, admission: "Admission", client: Client | None) -> None:
        self._admission = admission
        self._client = client
        self._held: Counter[Quota] = Counter()
        self._charged = 0

    def body(self, size: int) -> None:
        """Hold `size` more bytes of the body, which is in memory until the request ends."""
        self._take(self._admission.bodies, size)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Count as a request in progress, and wait until the request may be at work. It is at work inside the block.

        If the block raises an error that is not the client's fault, the charge for the samples is refunded.
        """
        self._take(self._admission.requests, 1)
        async with self._admission.limiter.slot(self._client):
            try:
                yield
            except Exception as problem:
                if self._client is not None and not _is_client_error(problem):
                    self._client.refund(self._charged)
                raise

    def samples(self, count: int, queued: int) -> None:
        """Charge the client for `count` samples, and hold places in the queue for the `queued` ones that wait together.

        Raises ApiError 400 if `count` is more than the client may ever have in flight.
        """
        if self._client is not None:
            self._client.charge(count, self._admission.seconds_for)
            self._charged = count
        self._take(self._admission.queue, queued)

    def computed(self) -> None:
        """Leave the queue before the request ends."""
        self._give_back(self._admission.queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for quota in list(self._held):
            self._give_back(quota)
        if self._client is not None:
            self._client.in_flight -= self._charged

    def _take(self, quota: Quota, amount: int) -> None:
        if shortfall := quota.take(self._client, amount):
            raise self._admission.refusal(quota, shortfall)
        self._held[quota] += amount

    def _give_back(self, quota: Quota) -> None:
        quota.give_back(self._client, self._held.pop(quota, 0))


class Admission:
    """The budgets of a service. Not safe for threads: for one event loop."""

    def __init__(
        self,
        max_requests: int,
        max_queue: int,
        max_body: int,
        seconds_for: Callable[[int], float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`max_body`: bytes of one body. `seconds_for` estimates how long a number of samples takes."""
        self.requests = Quota(max_requests)
        self.queue = Quota(max_queue)
        self.bodies = Quota(_MAX_BODIES * max_body)
        self.limiter = ConcurrencyLimiter(clock)
        self.seconds_for = seconds_for
        self._sleep = sleep

    @asynccontextmanager
    async def request(self, client: Client | None) -> AsyncIterator[Ticket]:
        """Give a request its ticket until the block ends.

        Raises ApiError 429 at once if not even a request for one sample would fit now. While other clients send
        requests too, a refusal is delayed: a client that comes again at once would keep the event loop busy.
        """
        try:
            for quota in (self.requests, self.queue):
                if shortfall := quota.shortfall(client, 1):
                    raise self.refusal(quota, shortfall)
            with Ticket(self, client) as ticket:
                yield ticket
        except ApiError as problem:
            if problem.status == HTTPStatus.TOO_MANY_REQUESTS and not self.limiter.is_alone(client):
                await self._sleep(random.uniform(*_REFUSAL_SECONDS))  # noqa: S311  # no secret
            raise

    def refusal(self, quota: Quota, shortfall: int) -> ApiError:
        """Return the error for a request that does not fit into `quota`."""
        if quota is self.queue:
            return too_busy(_BUSY, self.seconds_for(shortfall), "queue_full")
        return too_busy(_BUSY, self.seconds_for(self.queue.used), "too_many_requests")


def _is_client_error(problem: Exception) -> bool:
    return isinstance(problem, ApiError) and problem.status < 500 and problem.status != HTTPStatus.TOO_MANY_REQUESTS
