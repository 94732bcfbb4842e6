"""Clients that mean no good, for benchmarks.abuse: a process of their own, so that they do not disturb who measures.

`python -m benchmarks.abusers URL --token TOKEN --crowds idle=500 writers=100` says `ready` in a line once all are in
place, goes on until SIGTERM, and then prints what the service told them, as JSON. Whoever is closed comes again.
"""

import argparse
import asyncio
import json
import resource
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

_SMALL_BUFFER = 4096
_LARGE = json.dumps({"num_samples": 256, "format": "npy", "seed": 0}).encode()
_SMALL = b'{"seed": %d}'
_SIPS_BYTES = 16
_PAUSE_SECONDS = 1.0
"""Between the few bytes that a slow client reads or writes, and before one that was refused comes again."""


def post(body: bytes, token: str, length: int | None = None) -> bytes:
    """A request for samples; `length`: what it says of its body, where that is not true."""
    lines = ["POST /generate HTTP/1.1", "Host: latentd", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length or len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to `request`. Raises OSError or EOFError where there is none as a whole."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


@dataclass
class Site:
    """What is abused, and what it said."""

    host: str
    port: int
    token: str
    said: Counter[str] = field(default_factory=Counter)
    """By crowd and status, or how a connection ended."""

    async def connect(self) -> socket.socket:
        """A connection with hardly any room for what comes in."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
        return connection


Act = Callable[[Site, asyncio.Event], Awaitable[str]]
"""Abuses until the service ends it, and tells how; sets the event once it is in place."""


async def idle(site: Site, there: asyncio.Event) -> str:
    """Connects and says nothing."""
    with closing(await site.connect()) as connection:
        there.set()
        return _told(await asyncio.get_running_loop().sock_recv(connection, 1024))


async def ask_much(site: Site, there: asyncio.Event) -> str:
    """Asks for a large answer and reads it slowly; in place once it has asked."""
    return await _read_slowly(site, there, asyncio.Event())


async def read_slowly(site: Site, there: asyncio.Event) -> str:
    """The same; in place once the answer has begun."""
    return await _read_slowly(site, asyncio.Event(), there)


async def _read_slowly(site: Site, asked: asyncio.Event, answered: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    with closing(await site.connect()) as connection:
        await loop.sock_sendall(connection, post(_LARGE, site.token))
        asked.set()
        said = told = await loop.sock_recv(connection, _SIPS_BYTES)
        answered.set()
        while said:
            await asyncio.sleep(_PAUSE_SECONDS)
            said = await loop.sock_recv(connection, _SIPS_BYTES)
        return _told(told)


async def write_head_slowly(site: Site, there: asyncio.Event) -> str:
    """Sends a head that does not end."""
    return await _drip(site, post(b"", site.token)[:-4] + b"\r\nX-More: ", there)


async def write_body_slowly(site: Site, there: asyncio.Event) -> str:
    """Sends a body that does not end."""
    return await _drip(site, post(b" ", site.token, length=100_000), there)


async def _drip(site: Site, begin: bytes, there: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    with closing(await site.connect()) as connection:
        await loop.sock_sendall(connection, begin)
        there.set()
        answer = asyncio.ensure_future(loop.sock_recv(connection, 1024))
        while not (await asyncio.wait({answer}, timeout=_PAUSE_SECONDS))[0]:
            await loop.sock_sendall(connection, b" ")
        return _told(await answer)


async def flood(site: Site, there: asyncio.Event) -> str:
    """Asks for one sample again and again on one connection, whatever the answer."""
    reader, writer = await asyncio.open_connection(site.host, site.port)
    with closing(writer):
        seed = 0
        while True:
            status, _ = await exchange(reader, writer, post(_SMALL % seed, site.token))
            there.set()
            site.said[f"flood: {status}"] += 1
            seed += 1


CROWDS: dict[str, Act] = {
    "idle": idle,
    "askers": ask_much,
    "readers": read_slowly,
    "heads": write_head_slowly,
    "bodies": write_body_slowly,
    "flood": flood,
}


async def _persist(crowd: str, site: Site, there: asyncio.Event) -> None:
    while True:
        try:
            site.said[f"{crowd}: {await CROWDS[crowd](site, there)}"] += 1
        except (OSError, EOFError) as problem:
            site.said[f"{crowd}: {type(problem).__name__}"] += 1
        await asyncio.sleep(_PAUSE_SECONDS)


async def abuse(site: Site, crowds: dict[str, int]) -> None:
    """So many of each crowd, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    places = [(crowd, asyncio.Event()) for crowd, size in crowds.items() for _ in range(size)]
    abusers = [asyncio.ensure_future(_persist(crowd, site, there)) for crowd, there in places]
    for _, there in places:
        await there.wait()
    print("ready", flush=True)  # noqa: T201  # its answer
    await stop.wait()
    for abuser in abusers:
        abuser.cancel()
    await asyncio.gather(*abusers, return_exceptions=True)


def main() -> None:
    """Parse arguments, abuse, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--crowds", nargs="+", required=True, help=f"NAME=SIZE, of {', '.join(CROWDS)}")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    address = urlsplit(options.url)
    site = Site(address.hostname or "", address.port or 80, options.token)
    sizes = (each.split("=") for each in options.crowds)
    uvloop.run(abuse(site, {name: int(size) for name, size in sizes}))
    print(json.dumps(site.said))  # noqa: T201  # its answer


def _told(said: bytes) -> str:
    return said[9:12].decode() if said else "closed"


if __name__ == "__main__":
    main()
