"""A load generator that costs little beside the server: raw HTTP/1.1 over asyncio, every request with a fresh seed.

Run as a process of its own: `python -m benchmarks.load URL --clients 16 --samples 16 --seconds 10` prints a JSON line.
Closed loop: each client sends its next request when its last one is answered. Open loop (`--rate`): requests are sent
at their times whether or not earlier ones were answered, and latency counts from the time that a request was due.
"""

import argparse
import asyncio
import gc
import json
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop

_MOST_SEEDS = 2**31
_PATIENCE_SECONDS = 120.0
_LONGEST_IDLE_SECONDS = 3.0
"""Servers close idle connections after five seconds; to ask on one just then would be the client's fault."""


@dataclass
class Tally:
    """What came of the requests that were answered in the measured time."""

    latencies: list[float] = field(default_factory=list)
    """Seconds, of the good answers."""
    failures: Counter[str] = field(default_factory=Counter)
    """By status, or by what went wrong."""
    failed_latencies: list[float] = field(default_factory=list)
    counting: bool = False

    def add(self, outcome: str, seconds: float) -> None:
        if outcome == "ok":
            self.latencies.append(seconds)
        else:
            self.failures[outcome] += 1
            self.failed_latencies.append(seconds)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.open = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Give the connection up."""
        self._transport.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; ConnectionError where the server closes instead."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.open = True

    def connection_lost(self, problem: Exception | None) -> None:
        self.open = False
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(problem))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result((status, body))


class Pool:
    """As many connections as are wanted at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: deque[Connection] = deque()

    async def take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < _LONGEST_IDLE_SECONDS:
                return connection
            connection.close()
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return connection

    def give(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        self._idle.append(connection)


class Load:
    """Sends requests for `samples` samples and tallies the answers."""

    def __init__(self, url: str, samples: int, extra: dict[str, Any]) -> None:
        address = urlsplit(url)
        self._host = address.netloc.encode()
        self._path = (address.path or "/generate").encode()
        self._pool = Pool(address.hostname or "", address.port or 80)
        self._samples = samples
        self._extra = extra
        self._random = random.Random()  # noqa: S311  # seeds of samples
        self.tally = Tally()

    async def one(self, due: float, counts: bool | None = None) -> None:
        """Send one request, whose latency counts from `due`. `counts`: whether it does; None: as the tally says."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                connection = await self._pool.take()
                status, body = await connection.ask(self._request())
                self._pool.give(connection)
            complete = body.count(b'"data"') == self._samples
            outcome = "ok" if status == 200 and complete else str(status) if status != 200 else "incomplete"
        except (OSError, TimeoutError) as problem:
            outcome = type(problem).__name__
        if self.tally.counting if counts is None else counts:
            self.tally.add(outcome, time.perf_counter() - due)

    def _request(self) -> bytes:
        fields = {"num_samples": self._samples, "seed": self._random.randrange(_MOST_SEEDS), **self._extra}
        body = json.dumps(fields).encode()
        head = b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % (self._path, self._host, len(body)) + body


async def closed_loop(load: Load, clients: int, warm_up: float, seconds: float) -> float:
    """`clients` clients for `seconds`; gives the seconds that were measured."""
    stop = False

    async def client() -> None:
        while not stop:
            await load.one(time.perf_counter())

    tasks = [asyncio.ensure_future(client()) for _ in range(clients)]
    await asyncio.sleep(warm_up)
    load.tally.counting = True
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    measured = time.perf_counter() - started
    load.tally.counting = False
    stop = True
    await asyncio.gather(*tasks)
    return measured


async def open_loop(load: Load, rate: float, warm_up: float, seconds: float) -> float:
    """`rate` requests a second, evenly, for `seconds`; gives the seconds that were measured."""
    tasks: set[asyncio.Future[None]] = set()
    first = time.perf_counter()
    start_counting = first + warm_up
    for index in range(int(rate * (warm_up + seconds))):
        due = first + index / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(load.one(due, counts=due >= start_counting))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    measured = time.perf_counter() - start_counting
    await asyncio.gather(*tasks)
    return measured


def summary(load: Load, samples: int, seconds: float) -> dict[str, Any]:
    """The figures of a run, latencies in milliseconds."""
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
    """Parse arguments, run, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second, open loop; instead of --clients")
    parser.add_argument("--samples", type=int, default=1, help="samples a request")
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
