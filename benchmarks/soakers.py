"""The traffic of benchmarks.soak: requests with known answers, and clients that leave, read slowly or send nonsense."""

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

from benchmarks.abusers import Site

SWAPPED, CONDITIONAL, POINTS = "fashion-dcgan", "fashion-dcgan-conditional", "ring-gan"
KNOWN_SEEDS = 16
"""Of every kind, whose answers are compared; a third of the requests have others."""
_PAUSE_SECONDS = 0.05
"""Of an ordinary client between requests, on the mean."""
_LONGEST_IDLE_SECONDS = 3.0
"""The service closes idle connections after five seconds."""
_LOST_AFTER_SECONDS = 100.0
"""More than LATENTD_TIMEOUT, and LATENTD_DRAIN."""
_SIP_BYTES, _SIP_SECONDS = 32 * 2**10, 0.1
_CREATED = re.compile(rb'"created":\d+')
"""The one thing in an answer that its request does not name."""


@dataclass(frozen=True)
class Request:
    """What is asked, and the status that is right."""

    kind: str
    path: str
    body: bytes
    accept: str = "*/*"
    status: int = 200
    method: str = "POST"
    claimed: int | None = None
    """What it says of its body's length, where that is not true."""

    @property
    def wire(self) -> bytes:
        """As it is sent."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: latentd", f"Accept: {self.accept}"]
        lines += ["Content-Type: application/json", f"Content-Length: {self.claimed or len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


def _post(kind: str, path: str, accept: str = "*/*", **fields: Any) -> Request:
    return Request(kind, path, json.dumps(fields).encode(), accept)


def _film(kind: str, accept: str, seed: int, **fields: Any) -> Request:
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
    lambda seed: _film("interpolate, frames", "*/*", seed, steps=8),
    lambda seed: _film("interpolate, stream", "text/event-stream", seed, steps=60),
    lambda seed: _film("interpolate, film WebP", "image/webp", seed, steps=12, layout="animation", scale=2),
    lambda seed: _film("interpolate, film MP4", "video/mp4", seed, steps=12),
    lambda seed: _post("mix", "/mix", "image/png", sources=[{"seed": seed}, {"seed": seed + 1, "weight": 2}]),
    lambda seed: _post("neighbors", "/neighbors", seed=seed, num_samples=4, neighbor_seed=seed),
    _kserve,
    lambda seed: _post("OpenAI images", "/v1/images/generations", prompt="", seed=seed, n=2, size="56x56"),
]
"""A request for samples by its seed."""
LARGE = _post("256 as npy", "/generate", "application/x-npy", seed=0, num_samples=256)
_LEFT = [
    _post("left", "/generate", "image/webp", seed=0, num_samples=256, layout="grid"),
    _film("left", "text/event-stream", 0, steps=1000),
    _film("left", "video/mp4", 0, steps=200),
    LARGE,
]


def _bad(status: int, body: bytes, path: str = "/generate", **more: Any) -> Request:
    return Request("bad", path, body, status=status, **more)


_BAD = [
    _bad(400, b'{"seed": 1'),
    _bad(400, b""),
    _bad(400, b"\xff\xfe\x00"),
    _bad(400, b'{"seed": -1}'),
    _bad(400, b'{"sede": 1}'),
    _bad(400, b'{"latents": [[NaN]]}'),
    _bad(400, b'{"latents": [[1, 2, 3]]}'),
    _bad(400, b'{"num_samples": 100000}'),
    _bad(400, b"[" * 10_000),
    _bad(400, json.dumps({"latents": [[0.5] * 100_000]}).encode()),
    _bad(404, b'{"model": "nobody"}'),
    _bad(404, f'{{"model": "{SWAPPED}@000000000000"}}'.encode()),
    _bad(404, b"{}", "/nowhere"),
    _bad(405, b"", method="PUT"),
    _bad(406, b'{"seed": 1}', accept="text/html"),
    _bad(413, b"{", claimed=2**30),
    _bad(400, b'{"keyframes": [{"seed": 1}]}', "/interpolate"),
    _bad(400, b'{"sources": []}', "/mix"),
    _bad(400, b'{"inputs": []}', f"/v2/models/{SWAPPED}/infer"),
    _bad(400, f'{{"model": "{CONDITIONAL}", "prompt": "a dress and a bag"}}'.encode(), "/v1/images/generations"),
]


@dataclass
class Answer:
    """As it comes in."""

    body: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    whole: bool = False
    status: int = 0

    def on_header(self, name: bytes, value: bytes) -> None:  # httptools calls it
        self.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:  # httptools calls it
        self.body += data

    def on_message_complete(self) -> None:  # httptools calls it
        self.whole = True

    @property
    def version(self) -> str:
        """Of the model that it is from."""
        return self.headers.get(b"x-latentd-version", b"").decode()

    @property
    def digest(self) -> bytes:
        """Of what its request names."""
        return hashlib.sha256(_CREATED.sub(b"", self.body)).digest()


async def read_answer(reader: StreamReader, sip: int = 2**16, pause: float = 0.0) -> Answer:
    """The answer that comes next, `sip` bytes and a pause at a time; EOFError where it ends too soon."""
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.whole:
        data = await reader.read(sip)
        if not data:
            raise EOFError
        parser.feed_data(data)
        await asyncio.sleep(pause)
    answer.status = parser.get_status_code()
    return answer


@dataclass
class Tally:
    """What became of the requests."""

    sent: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    """By kind, and the status that came in place of the right one."""
    compared: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """Other bytes than the reference of the same version."""
    lost: Counter[str] = field(default_factory=Counter)
    """Sent whole before the end, and not answered."""
    left: Counter[str] = field(default_factory=Counter)
    """By the clients themselves."""
    too_late: Counter[str] = field(default_factory=Counter)
    """Sent after the service was told to stop, and not taken."""
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[str, float, float]] = field(default_factory=list)
    """Of ordinary requests: the kind, when it was sent, and how long it took; seconds."""


class Crowd:
    """Clients of one service, until it ends."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        self._site = site
        self._chance = chance
        self._known: dict[tuple[Request, str], bytes] = {}
        self.tally = Tally()
        self.told_to_stop: float | None = None
        """When."""

    async def learn(self) -> None:
        """Take what the service answers now for what its present versions have to answer."""
        requests = [kind(seed) for kind in KINDS for seed in range(KNOWN_SEEDS)]
        for request in [*requests, LARGE]:
            async with self._connection() as (reader, writer):
                writer.write(request.wire)
                answer = await read_answer(reader)
            if answer.status != request.status:
                raise RuntimeError(f"{request} was answered {answer.status}: {bytes(answer.body[:500])!r}")
            if self._known.setdefault((request, answer.version), answer.digest) != answer.digest:
                self.tally.wrong[request.kind] += 1

    async def keep(self, act: "Act") -> None:
        """Has a client `act` again and again, until the service is told to stop."""
        while self.told_to_stop is None:
            await self.once(act)

    async def once(self, act: "Act") -> None:
        """Has a client `act`; that it gets no connection is a loss, too."""
        try:
            await act(self)
        except OSError as problem:
            where = self.tally.lost if self.told_to_stop is None else self.tally.too_late
            where[f"connection: {type(problem).__name__}"] += 1

    async def ordinary(self) -> None:
        """Asks for one thing after the other on a connection that it keeps."""
        async with self._connection() as (reader, writer):
            used = time.monotonic()
            while self.told_to_stop is None and time.monotonic() - used < _LONGEST_IDLE_SECONDS:
                used = time.monotonic()
                request = self._something()
                answer = await self._exchange(request, reader, writer)
                if answer is None or answer.headers.get(b"connection") == b"close":
                    break
                self.tally.latencies.append((request.kind, used, time.monotonic() - used))
                await asyncio.sleep(self._chance.expovariate(1 / _PAUSE_SECONDS))

    async def slow_reader(self) -> None:
        """Asks for much, and takes it a sip at a time."""
        async with self._connection(await self._site.connect()) as (reader, writer):
            await self._exchange(LARGE, reader, writer, _SIP_BYTES, _SIP_SECONDS)

    async def large(self) -> None:
        """Asks for much."""
        async with self._connection() as (reader, writer):
            await self._exchange(LARGE, reader, writer)

    async def leaver(self) -> None:
        """Leaves before the answer is there, or in the middle of it."""
        async with self._connection() as (reader, writer):
            writer.write(self._chance.choice(_LEFT).wire)
            self.tally.sent["left"] += 1
            self.tally.left["left"] += 1
            if self._chance.random() < 0.5:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await reader.read(100)
            await asyncio.sleep(self._chance.uniform(0, 0.2))
            if self._chance.random() < 0.5:
                writer.transport.abort()

    async def bad(self) -> None:
        """Sends what is to be refused."""
        async with self._connection() as (reader, writer):
            await self._exchange(self._chance.choice(_BAD), reader, writer)
        await asyncio.sleep(2 * _PAUSE_SECONDS)

    def _something(self) -> Request:
        kind = self._chance.choice(KINDS)
        known = self._chance.random() < 2 / 3
        return kind(self._chance.randrange(KNOWN_SEEDS if known else 2**31))

    @asynccontextmanager
    async def _connection(self, slow: socket.socket | None = None) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        if slow is None:
            reader, writer = await asyncio.open_connection(self._site.host, self._site.port)
        else:
            reader, writer = await asyncio.open_connection(sock=slow, limit=_SIP_BYTES)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _exchange(
        self, request: Request, reader: StreamReader, writer: StreamWriter, *pace: Any
    ) -> Answer | None:
        """The answer, tallied; None where none came."""
        tally, kind = self.tally, request.kind
        tally.sent[kind] += 1
        sent = time.monotonic()
        try:
            async with asyncio.timeout(_LOST_AFTER_SECONDS):
                writer.write(request.wire)
                answer = await read_answer(reader, *pace)
        except (OSError, EOFError) as problem:
            after = self.told_to_stop is not None and sent >= self.told_to_stop
            where = tally.too_late if after else tally.lost
            where[f"{kind}: {type(problem).__name__}"] += 1
            return None
        if answer.status != request.status:
            tally.unexpected[f"{kind}: {answer.status} for {request.status}"] += 1
            return answer
        tally.expected[kind] += 1
        if (known := self._known.get((request, answer.version))) is not None:
            tally.compared[kind] += 1
            tally.versions[answer.version] += 1
            tally.wrong[kind] += known != answer.digest
        return answer


Act = Callable[[Crowd], Awaitable[None]]
