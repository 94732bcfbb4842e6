"""The clients of benchmarks.soak: they know the right answers, leave early, read slowly or send invalid requests."""

import asyncio
import hashlib
import json
import random
import re
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httptools

from benchmarks.abusers import Target

SWAPPED, CONDITIONAL, POINTS = "fashion-dcgan", "fashion-dcgan-conditional", "ring-gan"
_PAUSE_SECONDS = 0.05
"""Mean pause of an ordinary client between requests."""
_MAX_IDLE_SECONDS = 3.0
"""The service closes idle connections after five seconds."""
_LOST_AFTER_SECONDS = 100.0
"""More than LATENTD_TIMEOUT, and LATENTD_DRAIN."""
_SLOW_BYTES, _SLOW_SECONDS = 32 * 2**10, 0.1
"""A slow client reads this many bytes, then pauses for this many seconds."""
_CREATED = re.compile(rb'"created":\d+')
"""The only part of an answer that does not follow from its request."""


@dataclass(frozen=True)
class Request:
    """A request and the status that is right for it."""

    kind: str
    path: str
    body: bytes
    accept: str = "*/*"
    status: int = 200
    method: str = "POST"
    content_length: int | None = None
    """The header's value. None: the length of the body."""

    @property
    def wire(self) -> bytes:
        """The bytes that are sent."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: latentd", f"Accept: {self.accept}"]
        lines += ["Content-Type: application/json", f"Content-Length: {self.content_length or len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


def _post(kind: str, path: str, accept: str = "*/*", **fields: Any) -> Request:
    return Request(kind, path, json.dumps(fields).encode(), accept)


def _interpolate(kind: str, accept: str, seed: int, **fields: Any) -> Request:
    return _post(kind, "/interpolate", accept, keyframes=[{"seed": seed}, {"seed": seed + 1}], **fields)


def _kserve(seed: int) -> Request:
    seeds = {"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [seed, seed + 1]}
    return _post("KServe infer", f"/v2/models/{SWAPPED}/infer", inputs=[seeds])


KINDS: list[Callable[[int], Request]] = [
    lambda seed: _post("generate, JSON", "/generate", seed=seed, num_samples=4),
    lambda seed: _post("generate, one PNG", "/generate", "image/png", seed=seed),
    lambda seed: _post("generate, grid of 16", "/generate", "image/webp", seed=seed, num_samples=16),
    lambda seed: _post("generate, 64 as npy", "/generate", "application/x-npy", seed=seed, num_samples=64),
    lambda seed: _post("generate, of a class", "/generate", model=CONDITIONAL, seed=seed, label="Bag", truncation=0.7),
    lambda seed: _post("generate, points", "/generate", model=POINTS, seed=seed, num_samples=16),
    lambda seed: _interpolate("interpolate, frames", "*/*", seed, steps=8),
    lambda seed: _interpolate("interpolate, stream", "text/event-stream", seed, steps=60),
    lambda seed: _interpolate("interpolate, animated WebP", "image/webp", seed, steps=12, layout="animation", scale=2),
    lambda seed: _interpolate("interpolate, MP4", "video/mp4", seed, steps=12),
    lambda seed: _post("mix", "/mix", "image/png", sources=[{"seed": seed}, {"seed": seed + 1, "weight": 2}]),
    lambda seed: _post("neighbors", "/neighbors", seed=seed, num_samples=4, neighbor_seed=seed),
    _kserve,
    lambda seed: _post("OpenAI images", "/v1/images/generations", prompt="", seed=seed, n=2, size="56x56"),
]
"""Kinds of requests for samples: seed → request."""
LARGE = _post("256 as npy", "/generate", "application/x-npy", seed=0, num_samples=256)
_ABANDONED = [
    _post("abandoned", "/generate", "image/webp", seed=0, num_samples=256, layout="grid"),
    _interpolate("abandoned", "text/event-stream", 0, steps=1000),
    _interpolate("abandoned", "video/mp4", 0, steps=200),
    LARGE,
]


def _invalid(status: int, body: bytes, path: str = "/generate", **more: Any) -> Request:
    return Request("invalid", path, body, status=status, **more)


_INVALID = [
    _invalid(400, b'{"seed": 1'),
    _invalid(400, b""),
    _invalid(400, b"\xff\xfe\x00"),
    _invalid(400, b'{"seed": -1}'),
    _invalid(400, b'{"sede": 1}'),
    _invalid(400, b'{"latents": [[NaN]]}'),
    _invalid(400, b'{"latents": [[1, 2, 3]]}'),
    _invalid(400, b'{"num_samples": 100000}'),
    _invalid(400, b"[" * 10_000),
    _invalid(400, json.dumps({"latents": [[0.5] * 100_000]}).encode()),
    _invalid(404, b'{"model": "nobody"}'),
    _invalid(404, f'{{"model": "{SWAPPED}@000000000000"}}'.encode()),
    _invalid(404, b"{}", "/nowhere"),
    _invalid(405, b"", method="PUT"),
    _invalid(406, b'{"seed": 1}', accept="text/html"),
    _invalid(413, b"{", content_length=2**30),
    _invalid(400, b'{"keyframes": [{"seed": 1}]}', "/interpolate"),
    _invalid(400, b'{"sources": []}', "/mix"),
    _invalid(400, b'{"inputs": []}', f"/v2/models/{SWAPPED}/infer"),
    _invalid(400, f'{{"model": "{CONDITIONAL}", "prompt": "a dress and a bag"}}'.encode(), "/v1/images/generations"),
]


@dataclass
class Answer:
    """An answer, filled in by httptools' parser as it arrives."""

    body: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    whole: bool = False
    status: int = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True

    @property
    def version(self) -> str:
        """The version of the model that made it, empty without the header."""
        return self.headers.get(b"x-latentd-version", b"").decode()

    @property
    def digest(self) -> bytes:
        """A hash of everything that follows from the request."""
        return hashlib.sha256(_CREATED.sub(b"", self.body)).digest()


async def read_answer(reader: StreamReader, size: int = 2**16, pause: float = 0.0) -> Answer:
    """Read the next answer, `size` bytes at a time with pauses. Raises EOFError if the connection ends before it."""
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.whole:
        data = await reader.read(size)
        if not data:
            raise EOFError
        parser.feed_data(data)
        await asyncio.sleep(pause)
    answer.status = parser.get_status_code()
    return answer


@dataclass
class Tally:
    """Outcomes of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    """Answers with a wrong status, by kind and both statuses."""
    compared: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """Answers whose bytes differ from the reference of the same version."""
    lost: Counter[str] = field(default_factory=Counter)
    """Requests that were sent completely before the end, and not answered."""
    abandoned: Counter[str] = field(default_factory=Counter)
    """Requests whose client left before the end of the answer."""
    too_late: Counter[str] = field(default_factory=Counter)
    """Requests that were sent after the service was told to stop, and refused."""
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[str, float, float]] = field(default_factory=list)
    """Of ordinary requests: the kind, the time of sending and the latency, in seconds."""


class Clients:
    """Clients of one service, until it ends."""

    def __init__(self, target: Target, random_choices: random.Random, known_seeds: int) -> None:
        """`known_seeds`: for each kind of request, the answers of this many seeds are compared with a reference."""
        self._target = target
        self._random = random_choices
        self._known_seeds = known_seeds
        self._known: dict[tuple[Request, str], bytes] = {}
        self.tally = Tally()
        self.told_to_stop: float | None = None
        """The monotonic time of SIGTERM; None before."""

    async def record_references(self) -> None:
        """Record the present answers of the service as the references of the versions that it serves."""
        requests = [kind(seed) for kind in KINDS for seed in range(self._known_seeds)]
        for request in [*requests, LARGE]:
            async with self._connection() as (reader, writer):
                writer.write(request.wire)
                answer = await read_answer(reader)
            if answer.status != request.status:
                raise RuntimeError(f"{request} was answered {answer.status}: {bytes(answer.body[:500])!r}")
            if self._known.setdefault((request, answer.version), answer.digest) != answer.digest:
                self.tally.wrong[request.kind] += 1

    async def repeat(self, behavior: "Behavior") -> None:
        """Run one client after another until the service is told to stop."""
        while self.told_to_stop is None:
            await self.run(behavior)

    async def run(self, behavior: "Behavior") -> None:
        """Run one client. If it gets no connection, its request is lost."""
        try:
            await behavior(self)
        except OSError as problem:
            counter = self.tally.lost if self.told_to_stop is None else self.tally.too_late
            counter[f"connection: {type(problem).__name__}"] += 1

    async def ordinary(self) -> None:
        """Send one request after another on a kept connection."""
        async with self._connection() as (reader, writer):
            used = time.monotonic()
            while self.told_to_stop is None and time.monotonic() - used < _MAX_IDLE_SECONDS:
                used = time.monotonic()
                request = self._random_request()
                answer = await self._exchange(request, reader, writer)
                if answer is None or answer.headers.get(b"connection") == b"close":
                    break
                self.tally.latencies.append((request.kind, used, time.monotonic() - used))
                await asyncio.sleep(self._random.expovariate(1 / _PAUSE_SECONDS))

    async def slow_reader(self) -> None:
        """Request a large answer and read it slowly."""
        async with self._connection(await self._target.connect()) as (reader, writer):
            await self._exchange(LARGE, reader, writer, _SLOW_BYTES, _SLOW_SECONDS)

    async def large(self) -> None:
        """Request a large answer."""
        async with self._connection() as (reader, writer):
            await self._exchange(LARGE, reader, writer)

    async def leaver(self) -> None:
        """Close the connection before the answer, or in the middle of it."""
        async with self._connection() as (reader, writer):
            writer.write(self._random.choice(_ABANDONED).wire)
            self.tally.sent["abandoned"] += 1
            self.tally.abandoned["abandoned"] += 1
            if self._random.random() < 0.5:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await reader.read(100)
            await asyncio.sleep(self._random.uniform(0, 0.2))
            if self._random.random() < 0.5:
                writer.transport.abort()

    async def invalid(self) -> None:
        """Send an invalid request."""
        async with self._connection() as (reader, writer):
            await self._exchange(self._random.choice(_INVALID), reader, writer)
        await asyncio.sleep(2 * _PAUSE_SECONDS)

    def _random_request(self) -> Request:
        kind = self._random.choice(KINDS)
        known = self._random.random() < 2 / 3
        return kind(self._random.randrange(self._known_seeds if known else 2**31))

    @asynccontextmanager
    async def _connection(self, slow: socket.socket | None = None) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        if slow is None:
            reader, writer = await asyncio.open_connection(self._target.host, self._target.port)
        else:
            reader, writer = await asyncio.open_connection(sock=slow, limit=_SLOW_BYTES)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _exchange(
        self, request: Request, reader: StreamReader, writer: StreamWriter, *pace: Any
    ) -> Answer | None:
        """Send a request, record the outcome and return the answer; None if there was none."""
        tally, kind = self.tally, request.kind
        tally.sent[kind] += 1
        sent = time.monotonic()
        try:
            async with asyncio.timeout(_LOST_AFTER_SECONDS):
                writer.write(request.wire)
                answer = await read_answer(reader, *pace)
        except (OSError, EOFError) as problem:
            after = self.told_to_stop is not None and sent >= self.told_to_stop
            counter = tally.too_late if after else tally.lost
            counter[f"{kind}: {type(problem).__name__}"] += 1
            return None
        if answer.status != request.status:
            tally.unexpected[f"{kind}: {answer.status} for {request.status}"] += 1
            return answer
        tally.expected[kind] += 1
        if (known := self._known.get((request, answer.version))) is not None:
            tally.compared[kind] += 1
            tally.versions[answer.version] += 1
            if known != answer.digest:
                tally.wrong[kind] += 1
        return answer


Behavior = Callable[[Clients], Awaitable[None]]
