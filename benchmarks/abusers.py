"""Abusive clients for benchmarks.abuse, in a process of their own, so that they do not disturb the measuring client.

`python -m benchmarks.abusers URL --token TOKEN --crowds idle=500 bodies=100` prints `ready` once all clients are in
place, continues until SIGTERM, and then prints the number of each outcome as JSON. A client whose connection is closed
connects again.
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

_RECEIVE_BUFFER = 4096
_LARGE = json.dumps({"num_samples": 256, "format": "npy", "seed": 0}).encode()
_SMALL = b'{"seed": %d}'
_SIP_BYTES = 16
_PAUSE_SECONDS = 1.0
"""The pause between the few bytes that a slow client reads or writes, and before a client connects again."""


def post(body: bytes, token: str, length: int | None = None) -> bytes:
    """Return a request for samples. `length`: a Content-Length that is not that of `body`."""
    lines = ["POST /generate HTTP/1.1", "Host: latentd", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length or len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send `request`, and return the status and the body of its answer. Raises OSError or EOFError if there is none."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


@dataclass
class Target:
    """The server, and the outcomes of the clients' connections."""

    host: str
    port: int
    token: str
    outcomes: Counter[str] = field(default_factory=Counter)
    """By crowd and status, or by how the connection ended."""

    async def connect(self) -> socket.socket:
        """Open a connection with a small receive buffer."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
        return connection


Act = Callable[[Target, asyncio.Event], Awaitable[str]]
"""Abuses the server until it ends the connection, and returns the outcome. Sets the event once the client is in place.
"""


async def idle(target: Target, in_place: asyncio.Event) -> str:
    """Connect and send nothing."""
    with closing(await target.connect()) as connection:
        in_place.set()
        return _outcome(await asyncio.get_running_loop().sock_recv(connection, 1024))


async def ask_much(target: Target, in_place: asyncio.Event) -> str:
    """Request a large answer and read it slowly. In place once the request is sent."""
    return await _read_slowly(target, in_place, asyncio.Event())


async def read_slowly(target: Target, in_place: asyncio.Event) -> str:
    """Request a large answer and read it slowly. In place once the answer has begun."""
    return await _read_slowly(target, asyncio.Event(), in_place)


async def _read_slowly(target: Target, asked: asyncio.Event, answered: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    with closing(await target.connect()) as connection:
        await loop.sock_sendall(connection, post(_LARGE, target.token))
        asked.set()
        piece = beginning = await loop.sock_recv(connection, _SIP_BYTES)
        answered.set()
        while piece:
            await asyncio.sleep(_PAUSE_SECONDS)
            piece = await loop.sock_recv(connection, _SIP_BYTES)
        return _outcome(beginning)


async def write_head_slowly(target: Target, in_place: asyncio.Event) -> str:
    """Send an endless head."""
    return await _drip(target, post(b"", target.token)[:-4] + b"\r\nX-More: ", in_place)


async def write_body_slowly(target: Target, in_place: asyncio.Event) -> str:
    """Send an endless body."""
    return await _drip(target, post(b" ", target.token, length=100_000), in_place)


async def _drip(target: Target, beginning: bytes, in_place: asyncio.Event) -> str:
    loop = asyncio.get_running_loop()
    with closing(await target.connect()) as connection:
        await loop.sock_sendall(connection, beginning)
        in_place.set()
        answer = asyncio.ensure_future(loop.sock_recv(connection, 1024))
        while not (await asyncio.wait({answer}, timeout=_PAUSE_SECONDS))[0]:
            await loop.sock_sendall(connection, b" ")
        return _outcome(await answer)


async def flood(target: Target, in_place: asyncio.Event) -> str:
    """Request one sample after the other on one connection, whatever the answers."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    with closing(writer):
        seed = 0
        while True:
            status, _ = await exchange(reader, writer, post(_SMALL % seed, target.token))
            in_place.set()
            target.outcomes[f"flood: {status}"] += 1
            seed += 1


CROWDS: dict[str, Act] = {
    "idle": idle,
    "askers": ask_much,
    "readers": read_slowly,
    "heads": write_head_slowly,
    "bodies": write_body_slowly,
    "flood": flood,
}


async def _persist(crowd: str, target: Target, in_place: asyncio.Event) -> None:
    while True:
        try:
            target.outcomes[f"{crowd}: {await CROWDS[crowd](target, in_place)}"] += 1
        except (OSError, EOFError) as problem:
            target.outcomes[f"{crowd}: {type(problem).__name__}"] += 1
        await asyncio.sleep(_PAUSE_SECONDS)


async def abuse(target: Target, crowds: dict[str, int]) -> None:
    """Run this many clients of each crowd until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clients = [(crowd, asyncio.Event()) for crowd, size in crowds.items() for _ in range(size)]
    tasks = [asyncio.ensure_future(_persist(crowd, target, in_place)) for crowd, in_place in clients]
    for _, in_place in clients:
        await in_place.wait()
    print("ready", flush=True)  # noqa: T201  # read by benchmarks.abuse
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Parse the arguments, abuse the server, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--crowds", nargs="+", required=True, help=f"NAME=SIZE, of {', '.join(CROWDS)}")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    address = urlsplit(options.url)
    target = Target(address.hostname or "", address.port or 80, options.token)
    sizes = (each.split("=") for each in options.crowds)
    uvloop.run(abuse(target, {name: int(size) for name, size in sizes}))
    print(json.dumps(target.outcomes))  # noqa: T201  # read by benchmarks.abuse


def _outcome(beginning: bytes) -> str:
    """Return the status of an answer by its first bytes; `closed` if there is none."""
    return beginning[9:12].decode() if beginning else "closed"


if __name__ == "__main__":
    main()
