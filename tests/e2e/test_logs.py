"""The log of a real server: one line for each request, no secrets of clients, and spans for a collector."""

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Server, serving

SHIPPED = str(ROOT / "models" / "checkpoints")
TOKEN = "hunter2-a-secret"  # noqa: S105  # the log is searched for it
NUMBER = 0.87654321
"""A number of every latent that is sent."""
LATENT = [NUMBER] * 64


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return all lines, each of which is JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """Wait for the one line about a request, and return it."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines_of(server.log) if line.get("request_id") == request_id]

    eventually(lambda: any(line["logger"] == "latentd.access" for line in found()), f"no line about {request_id}")
    (line,) = found()
    return line


def raw(server: Server, data: bytes) -> bytes:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=300) as connection:
        connection.sendall(data)
        return connection.recv(65536)


def test_every_answer_has_an_id_and_every_request_one_line(server: Server) -> None:
    asked = [
        ("/generate", b'{"seed": 1, "num_samples": 3}', 200),
        ("/generate", b'{"seed": -1}', 400),
        ("/generate", None, 405),
        ("/models", None, 200),
        ("/explore", None, 200),
        ("/docs.json", None, 200),
        ("/static_content/swagger-ui.css", None, 200),
        ("/static_content/nothing", None, 404),
        ("/nowhere", None, 404),
    ]
    for number, (path, body, status) in enumerate(asked):
        answer = server.call(path, body, x_request_id=f"e2e-{number}")
        assert (answer.status, answer.headers["x-request-id"]) == (status, f"e2e-{number}")
    for number, (path, body, status) in enumerate(asked):
        line = line_of(server, f"e2e-{number}")
        assert line["message"] == f"{'GET' if body is None else 'POST'} {path} {status}"
    made = server.generate(seed=1, model="ring-gan")
    line = line_of(server, made.headers["x-request-id"])
    assert line["model"] == f"ring-gan@{made.headers['x-latentd-version']}"
    assert (line["samples"], line["bytes"], line["batches"]) == (1, len(made.body), 1)
    assert 0 < line["queue_seconds"] + line["compute_seconds"] <= line["seconds"]
    assert server.call("/livez", x_request_id="a-probe").headers["x-request-id"] == "a-probe"
    assert server.call("/livez", x_request_id="not sane").headers["x-request-id"] != "not sane"
    assert "a-probe" not in server.log.read_text()


def test_a_client_that_leaves_is_logged_as_unfinished(server: Server) -> None:
    body = json.dumps({"keyframes": [{"seed": 1}, {"seed": 2}], "steps": 1000, "format": "webp"})
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
    connection.request("POST", "/interpolate", body, {"Accept": "text/event-stream", "X-Request-Id": "left"})
    answer = connection.getresponse()
    answer.read(100)
    answer.close()
    connection.close()
    line = line_of(server, "left")
    assert (line["status"], line["samples"], line["unfinished"]) == (200, 1000, True)


def hostile_requests(server: Server) -> None:
    secret = {"authorization": f"Bearer {TOKEN}", "cookie": TOKEN, "x_request_timeout": "60"}
    bodies: list[Any] = [
        {"latents": [LATENT]},
        {"latents": [LATENT], "format": "png"},
        {"latents": [[*LATENT[:-1], "x"]]},
        {"latents": [LATENT[:3]]},
        {"latents": [[3e38 * NUMBER] * 64]},
        {"latents": LATENT},
        {"latents": str(LATENT)},
        {"latents": [LATENT], "label": LATENT},
        {str(LATENT): 1},
        {"model": TOKEN},
        {"model": f"a\n{TOKEN}\x1b[31m"},
        {"seed": 1, "format": TOKEN},
    ]
    for accept in ("*/*", "image/png", "text/event-stream", f"x/{TOKEN}"):
        for body in bodies:
            server.call("/generate", json.dumps(body).encode(), accept=accept, **secret)
        keyframes = {"keyframes": [{"latent": LATENT}, {"latent": LATENT}], "steps": 4}
        server.call("/interpolate", json.dumps(keyframes).encode(), accept=accept, **secret)
    server.call("/generate", f'{{"latents": [{LATENT}'.encode(), **secret)
    server.call("/generate", b'{"seed": 1}', x_request_timeout=TOKEN, authorization=TOKEN)
    server.call("/generate", b'{"num_samples": 256, "seed": 1}', **(secret | {"x_request_timeout": "0.001"}))
    for path in (f"/models?token={TOKEN}", "/docs.json", "/generate", "/nowhere", "/metrics", "/static_content/x"):
        for method in ("GET", "POST", "PUT", "BREW"):
            server.call(path, b"[" + json.dumps(LATENT).encode() if method != "GET" else None, method, **secret)
    for path in (
        "/%0a%7b%22level%22%3a%22forged%22%7d%0a",
        "/%1b%5b31mred",
        "/%c2%9b31m",
        "/%e2%80%a8",
        "/%ff%fe",
        "/\x7f",
    ):
        raw(
            server,
            f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nX-Request-Id: a%0a\r\n\r\n".encode(),
        )
    raw(server, f"GET / HTTP/1.1\r\nAuthorization {TOKEN}\r\n\r\n".encode())
    raw(server, f"{TOKEN}\r\n\r\n".encode())
    raw(server, f"POST /generate HTTP/1.1\r\nHost: a\r\nAuthorization: {TOKEN}\r\nContent-Length: x\r\n\r\n".encode())
    raw(server, b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + TOKEN.encode())


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_has_no_secrets_no_tracebacks_and_no_forged_lines(tmp_path: Path, form: str) -> None:
    with serving(tmp_path, LATENTD_MODELS=SHIPPED, LATENTD_LOG=form) as other:
        hostile_requests(other)
        assert other.generate(seed=1).status == 200
        other.call("/models", x_request_id="the-last")
        eventually(lambda: "the-last" in other.log.read_text())
    log = other.log.read_text()
    assert TOKEN not in log
    assert "8765432" not in log
    assert "Traceback" not in log
    assert not [char for char in log if not char.isprintable() and char != "\n"]
    if form == "json":
        lines = lines_of(other.log)
        assert {line["level"] for line in lines} <= {"info", "warning"}
        assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
        ids = [line["request_id"] for line in lines if line["logger"] == "latentd.access"]
        assert len(ids) == len(set(ids)) >= 80
        assert {line["logger"] for line in lines} >= {
            "bentoml.serve",
            "latentd.catalog",
            "latentd.access",
            "uvicorn.error",
        }
        assert "bentoml.access" not in {line["logger"] for line in lines}
    else:
        assert "latentd.access: GET /models 200 request_id=the-last" in log


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Listen on loopback as an OpenTelemetry collector, and yield its URL and what it receives."""
    taken: list[bytes] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                taken.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", taken
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_spans_reach_a_collector(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install 'latentd[otlp]'")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (url, taken):
        with serving(tmp_path, LATENTD_MODELS=SHIPPED, OTEL_EXPORTER_OTLP_ENDPOINT=url) as other:
            with ThreadPoolExecutor(32) as pool:  # so many at a time that some share a batch
                answers = list(pool.map(lambda seed: other.generate(seed=seed, num_samples=2), range(256)))
            assert {answer.status for answer in answers} == {200}
            other.generate(num_samples=0)
        exports = [ExportTraceServiceRequest.FromString(body) for body in taken]
    resources = [each for export in exports for each in export.resource_spans]
    names = [
        pair.value.string_value for each in resources for pair in each.resource.attributes if pair.key == "service.name"
    ]
    assert set(names) == {"latentd"}
    spans = {span.span_id: span for each in resources for scope in each.scope_spans for span in scope.spans}
    requests = {span_id for span_id, span in spans.items() if span.name == "POST /generate"}
    assert len(requests) == 257
    computed = set()
    for span in spans.values():
        if span.name in ("queue", "forward", "encode"):
            assert span.parent_span_id in requests
            (link,) = span.links
            assert spans[link.span_id].name == "batch synthesis"
            assert span.parent_span_id in {each.span_id for each in spans[link.span_id].links}
            computed.add((span.parent_span_id, span.name))
    assert len(computed) == 3 * 256
    assert max(len(span.links) for span in spans.values() if span.name == "batch synthesis") > 1
