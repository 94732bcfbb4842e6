"""Requests written byte by byte, to a server on this machine."""

import socket
import time
from urllib.parse import urlsplit

from tests.e2e.conftest import Answer, Server


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    address = urlsplit(server.url)
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(300)
    connection.connect((address.hostname, address.port))
    return connection


def answer(connection: socket.socket) -> Answer:
    """Read until the server closes the connection."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:
        pass
    first, _, body = said.partition(b"\r\n\r\n")
    status, *lines = first.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]) if said else 0, headers, body)


def number(metrics: bytes, name: str) -> float:
    """Return the value of a metric; 0 if it is not there."""
    found = [line for line in metrics.decode().splitlines() if line.startswith(f"{name} ")]
    return float(found[0].split()[1]) if found else 0.0


def drip(connection: socket.socket, piece: bytes, times: int, pause: float = 0) -> None:
    for _ in range(times):
        connection.sendall(piece)
        time.sleep(pause)
