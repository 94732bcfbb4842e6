"""Tokens, and limits on clients, bodies and connections, on a real server."""

import http.client
import json
import os
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import eventually
from tests.e2e.conftest import ROOT, Answer, Server, serving
from tests.e2e.raw_http import answer, connect, drip, number

MODELS = str(ROOT / "models" / "checkpoints")
CLIENT, OTHER, SCRAPER = "client-0123456789abcdef", "other-0123456789abcdef", "scraper-0123456789abcdef"
WASTEFUL, UNKNOWN = "wasteful-0123456789abcdef", "unknown-0123456789abcdef"
TIMEOUT = 2


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"ci {CLIENT}\nslow {OTHER} rate=0.1 burst=4\nwasteful {WASTEFUL} rate=0.01 burst=4")
    return file


@pytest.fixture(scope="module")
def guarded(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "LATENTD_MODELS": MODELS,
        "LATENTD_TOKENS_FILE": str(tokens),
        "LATENTD_METRICS_TOKEN": SCRAPER,
        "LATENTD_MAX_BODY": "100000",
        "LATENTD_RECEIVE_TIMEOUT": str(TIMEOUT),
        "LATENTD_SEND_TIMEOUT": str(TIMEOUT),
    }
    with serving(tmp_path_factory.mktemp("guarded"), **environment) as running:
        yield running
        log = running.log.read_text()
        assert not [token for token in (CLIENT, OTHER, WASTEFUL, SCRAPER) if token in log]
        assert "Traceback" not in log


def ask(server: Server, token: str | None = CLIENT, **fields: Any) -> Answer:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return server.call("/generate", json.dumps({"model": "ring-gan"} | fields).encode(), **headers)


def head(token: str | None = CLIENT, *lines: str, path: str = "/generate") -> bytes:
    shown = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *shown, *lines, "", ""]).encode()


# Tokens


def test_without_a_token_only_pages_and_probes_are_answered(guarded: Server) -> None:
    for path in ("/models", "/models/ring-gan"):
        assert guarded.call(path).error == (401, "unauthorized", None)
    refused = ask(guarded, token=None)
    assert refused.error == (401, "unauthorized", None)
    assert refused.headers["www-authenticate"] == "Bearer"
    wrong = ask(guarded, token=UNKNOWN)
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    for path in ("/livez", "/readyz", "/healthz", "/", "/docs.json", "/explore", "/static_content/swagger-ui.css"):
        assert guarded.call(path).status == 200, path
    assert ask(guarded, seed=1).status == 200


def test_metrics_have_their_own_token(guarded: Server) -> None:
    assert guarded.call("/metrics").error == (401, "unauthorized", None)
    assert guarded.call("/metrics", authorization=f"Bearer {CLIENT}").error == (403, "forbidden", None)
    assert b"latentd_build_info" in guarded.call("/metrics", authorization=f"Bearer {SCRAPER}").body
    assert ask(guarded, token=SCRAPER).error == (403, "forbidden", None)


@pytest.mark.parametrize("path", ["/metrics", "/models", "/models/ring-gan", "/generate", "/livez", "/", "/explore"])
@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "%C2%85"])
def test_a_path_with_a_control_character_is_404(guarded: Server, path: str, end: str) -> None:
    for body in (None, b"{}"):
        for token in ({}, {"authorization": f"Bearer {CLIENT}"}):
            assert guarded.call(path + end, body, **token).error == (404, "not_found", None)
    shown = guarded.call("/metrics", authorization=f"Bearer {SCRAPER}").body.decode()
    assert "\\n" not in "".join(line for line in shown.splitlines() if not line.startswith("#"))


def test_the_log_names_the_client_of_a_request(guarded: Server) -> None:
    for token, request_id in ((CLIENT, "with-a-token"), (None, "without-one")):
        shown = {"authorization": f"Bearer {token}"} if token else {}
        guarded.call("/models", x_request_id=request_id, **shown)

    def accounts() -> dict[str, str | None]:
        lines = map(json.loads, guarded.log.read_text().splitlines())
        return {line["request_id"]: line.get("account") for line in lines if line["logger"] == "latentd.access"}

    eventually(lambda: {"with-a-token", "without-one"} <= set(accounts()))
    assert (accounts()["with-a-token"], accounts()["without-one"]) == ("ci", None)


def test_the_limits_of_a_token_do_not_affect_other_clients(guarded: Server) -> None:
    assert ask(guarded, token=OTHER, num_samples=4).status == 200
    refused = ask(guarded, token=OTHER, num_samples=4)
    assert refused.error == (429, "rate_limited", None)
    assert 30 <= int(refused.headers["retry-after"]) <= 40
    assert ask(guarded, num_samples=4).status == 200


def test_samples_that_are_not_finite_are_charged(guarded: Server) -> None:
    card = guarded.call("/models/ring-gan", authorization=f"Bearer {CLIENT}").json["card"]
    latents = [[3e38] * card["spec"]["input"]["dim"]] * 4
    assert ask(guarded, token=WASTEFUL, latents=latents).error == (400, "invalid_request", "latents")
    assert ask(guarded, token=WASTEFUL, num_samples=1).error == (429, "rate_limited", None)


def test_tokens_change_while_the_service_runs(guarded: Server, tokens: Path) -> None:
    before, new = tokens.read_text(), "new-0123456789abcdef"
    tokens.write_text("nonsense")
    eventually(lambda: ask(guarded).status == 200 and "the tokens stay as they were" in guarded.log.read_text())
    tokens.write_text(f"{before}\nci {new}")
    eventually(lambda: ask(guarded, token=new).status == 200)
    assert ask(guarded).status == 200
    tokens.write_text(before)
    eventually(lambda: ask(guarded, token=new).status == 401)
    assert new not in guarded.log.read_text()


def test_a_malformed_token_ends_the_start_and_is_not_quoted(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="latentd cannot start: LATENTD_TOKENS: line 1: ") as failure,
        serving(tmp_path, LATENTD_TOKENS="hunter2 ci"),
    ):
        pass
    assert "hunter2" not in str(failure.value)


# Clients that want everything


def test_a_client_that_takes_all_it_can_leaves_room_for_others(tmp_path: Path) -> None:
    tokens = f"ci {CLIENT};other {OTHER}"
    with serving(tmp_path, LATENTD_MODELS=MODELS, LATENTD_TOKENS=tokens, LATENTD_MAX_REQUESTS="8") as server:

        def in_progress() -> float:
            return number(server.call("/metrics").body, "latentd_requests_under_way")

        way = {"model": "fashion-dcgan", "keyframes": [{"seed": 1}, {"seed": 2}], "steps": 1024, "format": "npy"}
        body = json.dumps(way).encode()
        accept = "Accept: text/event-stream"
        with ExitStack() as streams:
            for _ in range(7):  # nobody reads these streams, and they are larger than all buffers
                stream = streams.enter_context(closing(connect(server, receive_buffer=4096)))
                stream.sendall(head(CLIENT, accept, f"Content-Length: {len(body)}", path="/interpolate") + body)
            eventually(lambda: in_progress() == 7)
            with closing(connect(server)) as unread:
                unread.sendall(head(CLIENT, "Content-Length: 100000", "Expect: 100-continue"))
                refused = answer(unread)
            assert refused.error == (429, "too_many_requests", None)
            assert int(refused.headers["retry-after"]) >= 1
            assert ask(server, token=OTHER).status == 200
        eventually(lambda: in_progress() == 0)
        assert ask(server).status == 200


# Bodies and heads


def test_a_body_whose_length_is_too_large_is_not_read(guarded: Server) -> None:
    for lines in (["Content-Length: 100001"], ["Content-Length: 100001", "Expect: 100-continue"]):
        with closing(connect(guarded)) as connection:
            connection.sendall(head(CLIENT, *lines))
            refused = answer(connection)
        assert refused.error == (413, "body_too_large", None)


def test_a_chunked_body_that_grows_too_large_is_refused(guarded: Server) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(head(CLIENT, "Transfer-Encoding: chunked"))
        for _ in range(11):
            connection.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("lines", [["Content-Length: 5000000"], ["Transfer-Encoding: chunked"]])
def test_without_a_token_the_body_is_not_read(guarded: Server, lines: list[str]) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(head(None, *lines, "Expect: 100-continue"))
        assert answer(connection).error == (401, "unauthorized", None)


UPGRADES = {
    "h2c": [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAAB",
    ],  # Java's client sends them
    "websocket": ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a", "Sec-WebSocket-Version: 13"],
}


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("pause", [0, 0.2])
def test_an_upgrade_header_is_ignored(guarded: Server, upgrade: str, pause: float) -> None:
    body = b'{"model": "ring-gan", "seed": 7, "num_samples": 3}'
    with closing(connect(guarded)) as connection:
        for _ in range(2):  # the connection stays open
            request = head(CLIENT, *UPGRADES[upgrade], f"Content-Length: {len(body)}")
            for piece in (request[:40], request[40:], body[:10], body[10:]) if pause else (request + body,):
                connection.sendall(piece)
                time.sleep(pause)
            answered = http.client.HTTPResponse(connection)
            answered.begin()
            assert answered.status == 200
            assert len(json.loads(answered.read())["samples"]) == 3
        connection.sendall(head(CLIENT, *UPGRADES[upgrade], "Transfer-Encoding: chunked", "Connection: close"))
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert answer(connection).status == 200


@pytest.mark.parametrize(("version", "interim"), [("1.1", True), ("1.0", False)])
def test_only_clients_of_http_1_1_are_told_to_continue(guarded: Server, version: str, interim: bool) -> None:
    body = b'{"model": "ring-gan", "seed": 7}'
    request = head(CLIENT, f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close")
    with closing(connect(guarded)) as connection:
        connection.sendall(request.replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + body)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n") == interim
    assert said.count(b"HTTP/1.1 200 OK") == 1


def test_many_upgrade_headers_in_one_packet_are_ignored(guarded: Server) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n"
    with closing(connect(guarded)) as connection:
        connection.sendall(request * 16 + request.replace(b"upgrade", b"close"))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.count(b"HTTP/1.1 200 OK") == 17


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_slow_body_after_an_upgrade_header_times_out(guarded: Server, upgrade: str) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(head(CLIENT, *UPGRADES[upgrade], "Content-Length: 1000") + b" ")
        assert answer(connection).error == (408, "request_timeout", None)


@pytest.mark.parametrize("piece", [b"1\r\n \r\n", b"X: " + b"x" * 20_000 + b"\r\n"], ids=["body", "trailers"])
def test_an_endless_request_is_cut_off(guarded: Server, piece: bytes) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(head(CLIENT, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n")
        if piece.startswith(b"X"):
            connection.sendall(b"0\r\n")
        with pytest.raises(ConnectionError):
            drip(connection, piece * 10, 100_000)


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000), (414, "uri_too_long")),
        (b"GET /%s" % (b"a" * 40_000), (414, "uri_too_long")),
        (b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * 33_000), (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\nX: %s" % (b"a" * 40_000), (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\n%s\r\n" % (b"X: a\r\n" * 101), (431, "headers_too_large")),
        (b"this is not HTTP\r\n\r\n", (400, "invalid_request")),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", (400, "invalid_request")),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", (400, "invalid_request")),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400, "invalid_request"),
        ),
    ],
    ids=[
        "url",
        "endless url",
        "header",
        "endless header",
        "many headers",
        "no http",
        "tunnel",
        "two lengths",
        "smuggling",
    ],
)
def test_invalid_and_too_large_heads_are_refused(guarded: Server, request_: bytes, refusal: tuple[int, str]) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(request_)
        refused = answer(connection)
    assert refused.error == (*refusal, None)
    assert refused.headers["x-content-type-options"] == "nosniff"


def rejections(server: Server, code: str) -> float:
    metrics = server.call("/metrics", authorization=f"Bearer {SCRAPER}").body
    return number(metrics, f'latentd_rejections_total{{reason="{code}"}}')


def test_refused_heads_are_counted_and_logged_with_the_address(guarded: Server) -> None:
    before = rejections(guarded, "uri_too_long")
    with closing(connect(guarded)) as connection:
        connection.sendall(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000))
        assert answer(connection).status == 414
    assert rejections(guarded, "uri_too_long") == before + 1
    eventually(lambda: "127.0.0.1 was answered 414 uri_too_long: " in guarded.log.read_text())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/" + "a" * 8000, "", 404), ("/", f"X: {'a' * 30_000}\r\n", 200), ("/", "X: a\r\n" * 97, 200)],
    ids=["url", "header", "many headers"],
)
def test_heads_of_the_largest_size_are_answered(guarded: Server, path: str, headers: str, status: int) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n".encode())
        assert answer(connection).status == status


# Slow clients


@pytest.mark.parametrize(
    ("said", "status"),
    [(b"", 0), (b"\r\n", 0), (b"POST /gene", 408), (b"POST /generate HTTP/1.1\r\nHost: a\r\n", 408)],
    ids=["nothing", "empty line", "half a line", "half a head"],
)
def test_a_head_that_does_not_arrive_times_out(guarded: Server, said: bytes, status: int) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(said)
        given_up = answer(connection)
    assert given_up.status == status
    if status:
        assert given_up.error == (408, "request_timeout", None)


def test_a_head_that_drips_times_out(guarded: Server) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            drip(connection, b"a", times=100, pause=0.2)


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_body_that_drips_times_out(guarded: Server, pieces: int) -> None:
    with closing(connect(guarded)) as connection:
        connection.sendall(head(CLIENT, "Content-Length: 1000"))
        connection.settimeout(0.2)
        for _ in range(pieces):
            try:
                connection.sendall(b" ")
                if connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                pass
        connection.settimeout(300)
        assert answer(connection).error == (408, "request_timeout", None)


def test_a_connection_whose_answer_is_not_read_is_closed(guarded: Server) -> None:
    body = json.dumps({"model": "fashion-dcgan", "num_samples": 256, "seed": 1, "format": "npy"})
    request = head(CLIENT, f"Content-Length: {len(body)}") + body.encode()
    with closing(connect(guarded, receive_buffer=4096)) as connection:
        connection.sendall(request * 16)  # more than the kernel's buffers take
        port = connection.getsockname()[1]
        eventually(lambda: is_connected(guarded, port))  # it is accepted
        eventually(lambda: not is_connected(guarded, port))
    eventually(lambda: "sent or read too slowly" in guarded.log.read_text())
    assert ask(guarded, seed=1).status == 200


def is_connected(server: Server, port: int) -> bool:
    """Return whether the server has an open connection from `port`."""
    server_process = psutil.Process(server.pid)
    return any(
        connection.raddr and connection.raddr.port == port
        for process in server_process.children(recursive=True)
        for connection in process.net_connections("tcp")
    )


def test_clients_that_pipeline_requests_and_leave_cause_no_traceback(guarded: Server) -> None:
    body = json.dumps({"model": "fashion-dcgan", "num_samples": 256, "seed": 1})
    for _ in range(3):
        with closing(connect(guarded)) as connection:
            connection.sendall((head(CLIENT, f"Content-Length: {len(body)}") + body.encode()) * 4)
            time.sleep(0.1)
    assert ask(guarded, seed=1).status == 200  # `guarded` looks for tracebacks at its end


# Browsers and payloads


def test_every_answer_has_security_headers(guarded: Server) -> None:
    asked = [("/nope", {}), ("/generate", {}), ("/models", {}), ("/metrics", {}), ("/", {}), ("/docs.json", {})]
    asked += [("/static_content/nope", {}), ("/explore", {}), ("/livez", {"method": "DELETE"}), ("/readyz", {})]
    asked += [("/generate", {"method": "OPTIONS", "origin": "http://evil", "access_control_request_method": "POST"})]
    for path, how in asked:
        headers = guarded.call(path, **how).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert headers["content-security-policy"].startswith("default-src 'none'; "), path
        assert not [name for name in headers if name.startswith("access-control")], path


class Planted:
    """Creates a folder when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def test_no_pickle_is_loaded_and_no_url_or_file_is_opened(guarded: Server, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    payload = pickle.dumps(Planted(planted))
    kinds = ("application/vnd.bentoml+pickle", "application/json", "application/octet-stream")
    for path in ("/generate", "/interpolate", "/mix", "/neighbors", "/", "/docs.json", "/readyz", "/generate/submit"):
        for kind in kinds:
            headers = {"authorization": f"Bearer {CLIENT}", "content_type": kind, "payload_container": "pickle"}
            assert 400 <= guarded.call(path, payload, **headers).status < 500, (path, kind)
    assert not planted.exists()
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(1)
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/x"
        for place in (url, "file:///etc/passwd", "/etc/passwd", "../../checkpoints/ring-gan.safetensors"):
            for field in ("model", "label", "latents", "format", "seed"):
                refused = ask(guarded, **{field: place})
                assert refused.status in (400, 404)
                assert b"root:" not in refused.body
        with pytest.raises(TimeoutError):
            bait.accept()


def test_bentomls_page_works_with_our_headers(chromium: Any, guarded: Server) -> None:
    page = chromium.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(guarded.url)
    page.locator(".opblock", has_text="/generate").first.click()
    page.click("text=Try it out")
    page.fill("textarea", '{"model": "ring-gan", "seed": 1}')
    page.click("text=Execute")
    page.wait_for_selector(".live-responses-table")
    assert "unauthorized" in page.inner_text(".live-responses-table")
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter(e => e.name.includes('googletag')).length") == 0
    )
    assert errors == []
    page.close()


def test_the_explorer_asks_for_the_token(chromium: Any, guarded: Server) -> None:
    page = chromium.new_page()
    page.goto(f"{guarded.url}/explore#model=ring-gan")
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token", CLIENT)
    page.keyboard.press("Enter")
    page.wait_for_selector("#tiles .select:not([disabled])")
    assert page.evaluate("Object.values(localStorage).length") == 0  # it is kept for the tab only
    page.close()


def test_a_connection_that_pipelines_too_many_requests_is_closed(guarded: Server) -> None:
    for sent in (18, 400):
        with connect(guarded) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * sent)
            said = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert said.count(b"HTTP/1.1 200") == said.count(b"HTTP/1.1") == 17
        assert said.count(b"connection: close") == 1
    assert ask(guarded).status == 200
