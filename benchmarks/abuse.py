"""Latency and lost answers of a well-behaved client beside each kind of abuse.

`python -m benchmarks.abuse` runs all kinds, `--only "100 slow writers"` only that one. Rounds without and with abuse
alternate, so that other work of the machine affects both. Every answer must have the same bytes as before the abuse.
"""

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvloop

from benchmarks import processes, report
from benchmarks.abusers import exchange, post
from benchmarks.processes import Server

_GOOD, _BAD, _LIMITED = "well-behaved-0123456", "abuser-0123456789abc", "limited-0123456789ab"
_TOKENS = f"good {_GOOD};bad {_BAD};limited {_LIMITED} rate=50 burst=50 in_flight=256"
_SLOW = {"idle": 500, "readers": 200, "heads": 50, "bodies": 50}
_FLOOD = {"flood": 64}
KINDS: dict[str, tuple[str, dict[str, int]]] = {
    "500 idle connections": (_BAD, {"idle": 500}),
    "200 slow readers, while they read": (_BAD, {"readers": 200}),
    "200 slow readers, while they ask": (_BAD, {"askers": 200}),
    "100 slow writers": (_BAD, {"heads": 50, "bodies": 50}),
    "10,000 requests": (_BAD, _FLOOD),
    "10,000 requests, with a limit": (_LIMITED, _FLOOD),
    "10,000 requests, on 400 connections": (_BAD, {"flood": 400}),
    "all at once": (_BAD, _SLOW | _FLOOD),
    "all at once, with a limit": (_LIMITED, _SLOW | _FLOOD),
}
"""The token of the abusers, and the size of each crowd. In a crowd `flood`, that is the number of connections."""
_SEEDS = 64
_RATE = 30.0
_LOST_AFTER_SECONDS = 30.0
_MAX_IDLE_SECONDS = 3.0
"""Older connections are not used again, because the service closes them after five seconds."""
_CALM_SECONDS = 2.0
_OVERSTAY_SECONDS = 40.0
"""Longer than LATENTD_RECEIVE_TIMEOUT and LATENTD_SEND_TIMEOUT."""
_CLOSED = re.compile(r"(\d+) connections closed")


class WellBehaved:
    """Requests one sample `_RATE` times per second. Latency counts from the time at which a request was due."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._address = address.hostname or "", address.port or 80
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._expected: dict[int, bytes] = {}
        self.latencies: list[float] = []
        """Seconds."""
        self.lost: Counter[str] = Counter()
        """Requests without a right answer, by the reason."""

    async def remember(self) -> None:
        """Keep the answers to all seeds, as the expected ones."""
        for seed in range(_SEEDS):
            status, self._expected[seed] = await self._ask(seed)
            assert status == 200  # noqa: S101  # there is no abuse yet

    async def ask_for(self, seconds: float) -> None:
        """Send requests for `seconds`, then wait for their answers."""
        self.latencies, self.lost = [], Counter()
        first = time.perf_counter()
        requests: list[asyncio.Task[None]] = []
        for index in range(int(_RATE * seconds)):
            due = first + index / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.append(asyncio.ensure_future(self._ask_one(index % _SEEDS, due)))
        await asyncio.gather(*requests)

    async def _ask_one(self, seed: int, due: float) -> None:
        try:
            async with asyncio.timeout(_LOST_AFTER_SECONDS):
                status, body = await self._ask(seed)
        except (OSError, EOFError) as problem:
            self.lost[type(problem).__name__] += 1
            return
        self.latencies.append(time.perf_counter() - due)
        if status != 200:
            self.lost[str(status)] += 1
        elif body != self._expected[seed]:
            self.lost["other bytes"] += 1

    async def _ask(self, seed: int) -> tuple[int, bytes]:
        reader, writer = await self._connection()
        answer = await exchange(reader, writer, post(b'{"seed": %d}' % seed, _GOOD))
        self._idle.append((time.monotonic(), reader, writer))
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < _MAX_IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._address)


@contextmanager
def abusing(server: Server, token: str, crowds: dict[str, int], outcomes: Counter[str]) -> Iterator[None]:
    """Run abusers until the block ends, and add their outcomes to `outcomes`."""
    sizes = [f"{crowd}={size}" for crowd, size in crowds.items()]
    command = [sys.executable, "-m", "benchmarks.abusers", server.url, "--token", token, "--crowds", *sizes]
    with subprocess.Popen(command, cwd=processes.ROOT, stdout=subprocess.PIPE, text=True) as abusers:
        try:
            assert abusers.stdout is not None  # noqa: S101  # a pipe
            if abusers.stdout.readline() != "ready\n":
                raise RuntimeError(f"the abusers ended early: {crowds}")
            yield
        finally:
            abusers.send_signal(signal.SIGTERM)
        outcomes.update(json.loads(abusers.stdout.readline()))


async def measure_round(client: WellBehaved, server: Server, seconds: float) -> dict[str, Any]:
    """Return the latencies and losses of `seconds`, and the server's peak memory in that time."""
    memory = server.resident_bytes()
    asking = asyncio.ensure_future(client.ask_for(seconds))
    while not asking.done():
        await asyncio.wait({asking}, timeout=1)
        memory = max(memory, server.resident_bytes())
    await asking
    return {
        "latencies_ms": [round(each * 1e3, 3) for each in client.latencies],
        "lost": dict(client.lost),
        "resident_mb": memory / 1e6,
        "load": round(os.getloadavg()[0], 2),
    }


async def measure_kind(client: WellBehaved, server: Server, kind: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Alternate rounds without and with abuse. Return their results and the outcomes of the abusers."""
    found: dict[str, list[dict[str, Any]]] = {"quiet": [], "abused": []}
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        found["quiet"].append(await measure_round(client, server, seconds))
        with abusing(server, *KINDS[kind], outcomes):
            found["abused"].append(await measure_round(client, server, seconds))
        await asyncio.sleep(_CALM_SECONDS)
    return {"outcomes": dict(outcomes), **found}


def overstay(server: Server, seconds: float) -> dict[str, Any]:
    """Return what happens to slow abusers that stay longer than the service's timeouts."""
    outcomes: Counter[str] = Counter()
    before = _closed(server)
    with abusing(server, _BAD, _SLOW, outcomes):
        time.sleep(seconds)
    return {"outcomes": dict(outcomes), "closed": _closed(server) - before}


def row_of(kind: str, found: dict[str, Any]) -> list[Any]:
    """Return a line of the table."""
    quiet, abused = (_pooled(found[name]) for name in ("quiet", "abused"))
    ratios = [
        _percentile(each["latencies_ms"], 99) / _percentile(still["latencies_ms"], 99)
        for still, each in zip(found["quiet"], found["abused"], strict=True)
    ]
    lost = sum(sum(each["lost"].values()) for name in ("quiet", "abused") for each in found[name])
    return [
        kind,
        _percentile(quiet, 50),
        _percentile(abused, 50),
        _percentile(quiet, 99),
        _percentile(abused, 99),
        _percentile(abused, 99) / _percentile(quiet, 99),
        ", ".join(f"{each:.1f}" for each in ratios),
        f"{lost} of {len(quiet) + len(abused)}",
        max(each["resident_mb"] for each in found["abused"]),
        _listed(found["outcomes"]),
    ]


def main() -> None:
    """Run the kinds of abuse, print the table and write the results."""
    parser = report.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="each round")
    parser.add_argument("--rounds", type=int, default=3, help="with and without, of each kind")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.set_defaults(warm_up=5.0, overstay=_OVERSTAY_SECONDS)
    options = report.parse(parser, seconds=0.5, rounds=1, only=["100 slow writers"], warm_up=0.1, overstay=0.1)
    machine = report.machine()

    async def run(server: Server) -> dict[str, Any]:
        client = WellBehaved(server)
        await client.remember()
        await client.ask_for(options.warm_up)  # the first requests are slower
        return {
            kind: await measure_kind(client, server, kind, options.seconds, options.rounds) for kind in options.only
        }

    with processes.latentd(LATENTD_TOKENS=_TOKENS) as server:
        started = server.resident_bytes() / 1e6
        found = uvloop.run(run(server))
        overstayed = overstay(server, options.overstay)
    head = ["beside", "p50 ms quiet", "abused", "p99 ms quiet", "abused", "ratio", "ratio of each round"]
    head += ["answers lost", "peak memory, MB", "outcomes of the abusers"]
    table = report.markdown(head, [row_of(kind, each) for kind, each in found.items()])
    loads = [each["load"] for kind in found.values() for name in ("quiet", "abused") for each in kind[name]]
    table += f"\n\nSlow clients of all kinds, for {options.overstay:g} s more: by the log, {overstayed['closed']} "
    table += f"connections were closed; {_listed(overstayed['outcomes'])}.\n\n"
    table += f"Memory after the start: {started:.0f} MB. "
    table += f"Load of the machine in the rounds: {min(loads)} to {max(loads)}, median {statistics.median(loads):.2g}."
    results = {"machine": machine, "started_mb": started, "kinds": found, "overstayed": overstayed}
    report.write(options.results, "abuse", results, table)


def _closed(server: Server) -> int:
    return sum(map(int, _CLOSED.findall(server.log.read_text(encoding="utf-8"))))


def _pooled(rounds: list[dict[str, Any]]) -> list[float]:
    return [each for one in rounds for each in one["latencies_ms"]]


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values or [np.nan], percent))


def _listed(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{name} × {number:,}" for name, number in sorted(outcomes.items())) or "nothing"


if __name__ == "__main__":
    main()
