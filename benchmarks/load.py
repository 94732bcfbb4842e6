"""A load generator that uses little processor time: raw HTTP/1.1 over asyncio, a new seed in every request.

A process of its own: `python -m benchmarks.load URL --clients 16 --samples 16 --seconds 10` prints one JSON line.
Closed loop: each client sends its next request when its last one is answered. Open loop (`--rate`): requests are sent
at fixed times, whether or not earlier ones were answered. Their latency counts from the time that they were due.
"""

import argparse
import asyncio
import gc
import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop

_SEED_LIMIT = 2**31
_ANSWER_SECONDS = 120.0
_MAX_IDLE_SECONDS = 3.0
"""Servers close idle connections after five seconds. A request on such a connection would fail."""


@dataclass
class Tally:
    """Outcomes of the requests that were answered in the measured time."""

    latencies: list[float] = field(default_factory=list)
    """Seconds, of the good answers."""
    failures: Counter[str] = field(default_factory=Counter)
    """Keyed by status, or by the error's name."""
    failed_latencies: list[float] = field(default_factory=list)
    counting: bool = False

    def add(self, outcome: str, seconds: float) -> None:
        if outcome == "ok":
            self.latencies.append(seconds)
        else:
            self.failures[outcome] += 1
            self.failed_latencies.append(seconds)


@dataclass(slots=True)
class Pending:
    """A request without an answer so far."""

    due: float
    counts: bool | None
    """Whether the tally counts it. None: it counts if the tally is counting when the answer arrives."""
    then: Callable[[], None] | None


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one pending request.

    It uses callbacks, not a task per request: in an open loop the generator must not take the processor time that it
    measures.
    """

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._pending: Pending | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.open = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def send(self, request: bytes, pending: Pending) -> None:
        """Send `request`. The load is told the outcome of `pending`."""
        self._pending = pending
        self._transport.write(request)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.open = True

    def connection_lost(self, problem: Exception | None) -> None:
        self.open = False
        if self._pending:
            self._load.settle(self._pending, type(problem or ConnectionError()).__name__)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        pending, self._pending = self._pending, None
        self._load.release(self)
        if pending:
            self._load.settle(pending, self._load.outcome(status, body))


class Load:
    """Sends requests for `samples` samples and tallies the answers."""

    def __init__(self, url: str, samples: int, extra: dict[str, Any]) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        fields = json.dumps({"num_samples": samples, **extra, "seed": 0}).encode()
        assert fields.endswith(b"0}")  # noqa: S101  # the seed takes the place of the 0
        self._fields = fields[:-2]
        self._head = b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: " % (
            (address.path or "/generate").encode(),
            address.netloc.encode(),
        )
        self._samples = samples
        self._random = random.Random()  # noqa: S311  # seeds of samples
        self._idle: deque[Connection] = deque()
        self._connecting: set[asyncio.Future[None]] = set()
        self._pending: dict[int, Pending] = {}
        self.tally = Tally()

    def send(self, due: float, counts: bool | None = None, then: Callable[[], None] | None = None) -> None:
        """Send one request, whose latency counts from `due`. Call `then` once it is answered."""
        pending = Pending(due, counts, then)
        self._pending[id(pending)] = pending
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < _MAX_IDLE_SECONDS:
                connection.send(self._request(), pending)
                return
            connection.close()
        task = asyncio.ensure_future(self._connect(pending))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def release(self, connection: Connection) -> None:
        """Keep `connection` for a later request."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def outcome(self, status: int, body: bytes) -> str:
        """Return `ok`, or what is wrong with the answer."""
        if status != 200:
            return str(status)
        return "ok" if body.count(b'"data"') == self._samples else "incomplete"

    def settle(self, pending: Pending, outcome: str) -> None:
        """Record the outcome of a request."""
        del self._pending[id(pending)]
        if self.tally.counting if pending.counts is None else pending.counts:
            self.tally.add(outcome, time.perf_counter() - pending.due)
        if pending.then:
            pending.then()

    async def finish(self) -> None:
        """Wait for pending requests. Those without an answer after two minutes have failed."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self._pending and time.monotonic() < deadline:  # noqa: ASYNC110  # an event would cost every request
            await asyncio.sleep(0.05)
        for pending in self._pending.values():
            if pending.counts is not False:
                self.tally.add(TimeoutError.__name__, time.perf_counter() - pending.due)

    async def _connect(self, pending: Pending) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), self._host, self._port
            )
        except OSError as problem:
            self.settle(pending, type(problem).__name__)
        else:
            connection.send(self._request(), pending)

    def _request(self) -> bytes:
        body = b"%b%d}" % (self._fields, self._random.randrange(_SEED_LIMIT))
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


async def closed_loop(load: Load, clients: int, warm_up: float, seconds: float) -> float:
    """Run `clients` clients for `seconds` after the warm-up. Return the seconds that were measured."""
    stop = False

    def send_next() -> None:
        if not stop:
            load.send(time.perf_counter(), then=send_next)

    for _ in range(clients):
        send_next()
    await asyncio.sleep(warm_up)
    load.tally.counting = True
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    measured = time.perf_counter() - started
    load.tally.counting = False
    stop = True
    await load.finish()
    return measured


async def open_loop(load: Load, rate: float, warm_up: float, seconds: float) -> float:
    """Send `rate` requests per second for `seconds` after the warm-up. Return the seconds that were measured."""
    first = time.perf_counter()
    start_counting = first + warm_up
    for index in range(int(rate * (warm_up + seconds))):
        due = first + index / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        load.send(due, counts=due >= start_counting)
    measured = time.perf_counter() - start_counting
    await load.finish()
    return measured


def summary(load: Load, samples: int, seconds: float) -> dict[str, Any]:
    """Return the figures of a run, latencies in milliseconds."""
    tally = load.tally
    latencies = np.array(tally.latencies or [np.nan]) * 1e3
    return {
        "seconds": seconds,
        "requests": len(tally.latencies),
        "failed": sum(tally.failures.values()),
        "failures": dict(tally.failures),
        "requests_per_second": len(tally.latencies) / seconds,
        "images_per_second": len(tally.latencies) * samples / seconds,
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "failed_p50_ms": float(np.median(np.array(tally.failed_latencies or [np.nan]) * 1e3)),
    }


def main() -> None:
    """Run a load and print its figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests per second, open loop; instead of --clients")
    parser.add_argument("--samples", type=int, default=1, help="samples per request")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--extra", type=json.loads, default={}, help="more fields of the body, as JSON")
    options = parser.parse_args()

    gc.freeze()
    gc.set_threshold(100_000, 50, 50)  # its own pauses are not the server's

    async def run() -> dict[str, Any]:
        load = Load(options.url, options.samples, options.extra)
        if options.rate:
            seconds = await open_loop(load, options.rate, options.warm_up, options.seconds)
        else:
            seconds = await closed_loop(load, options.clients, options.warm_up, options.seconds)
        return summary(load, options.samples, seconds)

    print(json.dumps(uvloop.run(run())))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
