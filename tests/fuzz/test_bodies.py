"""Hostile bodies and headers on real connections: each gets an answer of ours, and the server keeps nothing of them."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.conftest import Answer, Server
from tests.e2e.test_bad_input import resident_bytes
from tests.fuzz.cases import NOTES, TRIED, cases
from tests.fuzz.hostile import GOOD, bodies, headers

GROWTH = 64 * 2**20
"""Bytes that a server may use more at the end: what its allocator keeps, and nothing of the requests."""
SECONDS = 60
JSON_HEADERS = [(b"Content-Type", b"application/json"), (b"Accept", b"*/*")]


def send(server: Server, path: str, body: bytes, lines: list[tuple[bytes, bytes]]) -> Answer:
    """Send a request that may be malformed, which http.client would refuse to."""
    head = [b"POST " + path.encode() + b" HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body)]
    head += [name + b": " + value for name, value in lines]
    address = urlsplit(server.url)
    with closing(socket.create_connection((address.hostname, address.port), timeout=SECONDS)) as connection:
        connection.sendall(b"\r\n".join((*head, b"", body)))
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        TRIED[f"hostile requests, answered {answer.status}"] += 1
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())


def all_good(server: Server) -> list[Answer]:
    return [
        send(server, path, json.dumps(body).encode(), JSON_HEADERS)
        for path, of_path in GOOD.items()
        for body in of_path
    ]


def check(answer: Answer, lines: list[tuple[bytes, bytes]]) -> None:
    if answer.status == 200:
        assert answer.headers["content-type"]
        return
    assert answer.headers["content-type"] == "application/json"
    assert answer.error[0] < 500 or (answer.error[:2] == (504, "timeout") and own_deadline(lines))
    assert len(answer.body) < 10_000
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", answer.headers.get("x-request-id", "none"))


def own_deadline(lines: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"x-request-timeout" for name, _ in lines)


@pytest.fixture(scope="module")
def unharmed(open_server: Server) -> Iterator[Server]:
    """A server that, at the end, still answers the same bytes and uses no more memory."""
    for _ in range(3):
        before = all_good(open_server)
    held = resident_bytes(open_server.pid)
    yield open_server
    after = all_good(open_server)
    assert [answer.status for answer in after] == [200] * len(after)
    assert [answer.body for answer in after] == [answer.body for answer in before]
    growth = resident_bytes(open_server.pid) - held
    NOTES.append(f"a server holds {growth / 2**20:.1f} MiB more after the hostile bodies")
    assert growth < GROWTH


@pytest.mark.parametrize("path", GOOD)
@cases(short=250, share=0.075)
@given(data=st.data(), lines=headers)
def test_hostile_bodies_get_an_answer(path: str, unharmed: Server, data: st.DataObject, lines: list) -> None:
    body = data.draw(bodies(path))
    named = {name.lower() for name, _ in lines}
    lines = lines + [each for each in JSON_HEADERS if each[0].lower() not in named]
    check(send(unharmed, path, body, lines), lines)
