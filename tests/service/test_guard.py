"""Tokens, their limits, bodies and connections, without a server."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.service.engine import Engine
from latentd.service.errors import ApiError
from latentd.service.gateway import Gateway
from latentd.service.guard import stall_watchdog
from latentd.service.guard import tokens as tokens_module
from latentd.service.guard.auth import Access, access_from
from latentd.service.guard.body import check_value_count
from latentd.service.guard.client import Client, ClientLimits, TokenBucket
from latentd.service.guard.tokens import Tokens, parse_tokens
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import BlockingRunner, executor, served
from tests.service.test_http import FixedCatalog

OLD, NEW, SCRAPER = "old-0123456789abcdef", "new-0123456789abcdef", "scraper-0123456789abcdef"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# The format of the tokens file


def test_the_lines_of_a_tokens_file_are_parsed() -> None:
    text = f"# ours\n\nci {OLD} rate=2.5 burst=10 in_flight=64  # the old one\nci {NEW}\nfree {SCRAPER}=="
    first, second, third = parse_tokens(text)
    assert [line.name for line in (first, second, third)] == ["ci", "ci", "free"]
    assert first.limits == ClientLimits(2.5, 10, 64)
    assert second.limits is third.limits is None
    assert OLD not in repr(first)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no token"),
        ("# nothing", "no token"),
        ("ci", "line 1: a line begins with a name"),
        (f"\nc/i {OLD}", "line 2: a line begins with a name"),
        ("ci short", "16 to 512"),
        (f"ci {'x' * 513}", "16 to 512"),
        (f"ci {OLD}é", "16 to 512"),
        (f"ci {OLD} 7", "rate="),
        (f"ci {OLD} rate=-1", "rate="),
        (f"ci {OLD} rate=nan", "rate="),
        (f"ci {OLD} rate=1e400", "rate="),
        (f"ci {OLD} rate=0", "above 0"),
        (f"ci {OLD} rate=1 rate=2", "at most once"),
        (f"ci {OLD} burst=1", "burst= needs rate="),
        (f"ci {OLD} in_flight=1.5", "in_flight is an integer"),
        (f"ci {OLD}\nops {OLD}", "listed twice"),
    ],
)
def test_invalid_lines_are_named_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as problem:
        parse_tokens(text)
    assert OLD not in str(problem.value)


def test_two_sets_of_limits_for_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ci {OLD} rate=1\nci {NEW} rate=2")
    with pytest.raises(ValueError, match="ci has different limits"):
        Tokens.of_file(file)


# A tokens file that changes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tokens_module.time, "monotonic", clock)
    return clock


def client_name(tokens: Tokens, token: str) -> str | None:
    account = tokens.client_of(token.encode())
    return account and account.name


def test_a_changed_file_is_read_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ci {OLD}")
    tokens = Tokens.of_file(file)
    account = tokens.client_of(OLD.encode())
    (tmp_path / "next").write_text(f"ci {OLD}\nci {NEW} in_flight=5")
    (tmp_path / "next").rename(file)
    assert Access(tokens).tokens_current
    assert client_name(tokens, NEW) is None  # the file is not checked at every request
    clock.now += 2
    assert (
        tokens.client_of(NEW.encode()) is tokens.client_of(OLD.encode()) is account
    )  # the same object, with what it has used
    file.write_text(f"ci {NEW}")
    clock.now += 2
    assert (client_name(tokens, OLD), client_name(tokens, NEW)) == (None, "ci")


def test_a_changed_kubernetes_secret_is_read_again(tmp_path: Path, clock: Clock) -> None:
    """Kubernetes mounts the file as a link through a folder link, and replaces that one."""
    for version, line in (("..1", f"ci {OLD}"), ("..2", f"ci {NEW}")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tokens").write_text(line)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    tokens = Tokens.of_file(tmp_path / "tokens")
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    clock.now += 2
    assert (client_name(tokens, OLD), client_name(tokens, NEW)) == (None, "ci")


@pytest.mark.parametrize("spoil", ["bad", "empty", "gone", "folder", "pipe", "huge", "binary"])
def test_an_invalid_file_leaves_the_tokens_as_they_were(
    spoil: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ci {OLD}")
    tokens = Tokens.of_file(file)
    file.unlink()
    if spoil == "folder":
        file.mkdir()
    elif spoil == "pipe":
        os.mkfifo(file)
    elif spoil != "gone":
        content = {"bad": f"{NEW} ci", "empty": "", "huge": f"ci {NEW}\n" + "#" * 2**20, "binary": "\udcff"}[spoil]
        file.write_text(content, errors="surrogateescape")
    clock.now += 2
    for _ in range(3):
        assert client_name(tokens, OLD) == "ci"
        clock.now += 2
    assert not Access(tokens).tokens_current
    assert len(caplog.messages) == 1  # once, not at every look
    assert "the tokens stay as they were" in caplog.text
    assert NEW not in caplog.text
    assert OLD not in caplog.text


# Limits


def test_a_bucket_grants_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=20, clock=clock)
    assert bucket.take(15) == 0
    assert bucket.take(10) == pytest.approx(0.5)
    clock.now += 0.5
    assert bucket.take(10) == 0
    assert bucket.take(1) == pytest.approx(0.1)
    clock.now += 1000
    assert bucket.take(20) == 0
    assert bucket.take(1) > 0  # no more than a burst was saved


def test_a_full_bucket_grants_more_than_its_burst_and_goes_into_debt() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=10, burst=20, clock=clock)
    assert bucket.take(100) == 0
    assert bucket.take(1) == pytest.approx(8.1)
    clock.now += 8.2
    assert bucket.take(1) == 0


def test_a_bucket_keeps_its_level_when_the_file_is_read_again() -> None:
    client = Client("ci")
    client.set_limits(ClientLimits(rate=0.001, burst=10))
    client.charge(10, float)
    client.set_limits(ClientLimits(rate=0.001, burst=10, in_flight=50))
    with pytest.raises(ApiError) as refused:
        client.charge(1, float)
    assert refused.value.code == "rate_limited"


# Over HTTP


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    file = tmp_path / "tokens"
    file.write_text(f"ci {OLD} rate=0.01 burst=8 in_flight=8\nfree {NEW}")
    settings = Settings(tokens_file=file, metrics_token=SecretStr(SCRAPER), max_body=2000, max_samples=8, max_queue=8)
    telemetry, runner = Telemetry(), BlockingRunner()
    telemetry.set_served(["m"])
    runner.release()
    engine = Engine(max_queue=8, parallel=1, observer=telemetry)
    engine.start()
    runtime = Runtime(settings, FixedCatalog(served(executor(runner, name="m"))), engine, telemetry)
    app = Gateway(Starlette(), lambda: runtime, access_from(settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        client.telemetry = telemetry
        yield client
    engine.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(""), 401),
        (bearer("wrong-0123456789abcdef"), 401),
        (bearer(NEW[:-1]), 401),
        (bearer(NEW + "x"), 401),
        (bearer(NEW), 200),
        ({"Authorization": NEW}, 401),
        ({"Authorization": f"Basic {NEW}"}, 401),
        ({"Authorization": f"bearer {NEW}"}, 200),
        (bearer(SCRAPER), 403),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/models"])
def test_only_a_known_token_gives_access(client: Any, path: str, headers: dict[str, str], status: int) -> None:
    if path == "/models":
        answer = client.get(path, headers=headers)
    else:
        answer = client.post(path, json={"num_samples": 1}, headers=headers)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["error"]["code"] == {401: "unauthorized", 403: "forbidden"}[status]
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_two_authorization_headers_are_refused(client: Any) -> None:
    headers = [("Authorization", f"Bearer {NEW}"), ("Authorization", f"Bearer {OLD}")]
    assert client.get("/models", headers=headers).status_code == 401


def test_no_body_is_read_without_a_token(client: Any) -> None:
    class Read(Exception):
        pass

    async def never() -> Any:
        raise Read

    async def ask(headers: list[tuple[bytes, bytes]]) -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/generate", "query_string": b"", "headers": headers}
        await client.app(scope, never, send)
        return sent

    assert asyncio.run(ask([]))[0]["status"] == 401
    assert asyncio.run(ask([(b"authorization", f"Bearer {OLD}".encode())]))[0]["status"] == 500  # the body was read


def test_tokens_of_one_name_are_one_client() -> None:
    access = Access(Tokens(lambda: f"ci {OLD}\nci {NEW}\nops {SCRAPER}"))
    headers = ([(b"authorization", f"Bearer {token}".encode())] for token in (OLD, NEW, SCRAPER))
    first, second, other = (access.client("client", each) for each in headers)
    assert first is second is not other


def test_refusals_are_counted(client: Any) -> None:
    client.get("/models")
    client.post("/generate", json={}, headers=bearer(SCRAPER))
    (rejections,) = client.telemetry.rejections.collect()
    counts = {sample.labels["reason"]: sample.value for sample in rejections.samples if sample.name.endswith("total")}
    assert (counts["unauthorized"], counts["forbidden"]) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens": "ci short"}, "LATENTD_TOKENS: line 1"),
        ({"tokens": f"ci {OLD}", "tokens_file": Path("x")}, "set one of them"),
        ({"tokens_file": Path("/nowhere/tokens")}, "LATENTD_TOKENS_FILE: .*No such file"),
        ({"metrics_token": "short"}, "LATENTD_METRICS_TOKEN: a token has"),
    ],
)
def test_invalid_token_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        access_from(Settings(**settings))


def test_the_metrics_token_is_refused_as_a_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ci {OLD}")
    known = access_from(Settings(tokens_file=file, metrics_token=SecretStr(SCRAPER)))._tokens
    assert known is not None
    monkeypatch.setattr(tokens_module, "_CHECK_SECONDS", 0)
    file.write_text(f"ci {OLD}\nscraper {SCRAPER}")
    known._next_check = 0
    assert client_name(known, SCRAPER) is None
    assert not known.current
    with pytest.raises(ValueError, match="scraper has the token for the metrics"):
        access_from(Settings(tokens_file=file, metrics_token=SecretStr(SCRAPER)))


def test_tokens_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTD_TOKENS", f"ci {OLD} rate=5; free {NEW}")
    settings = Settings()
    assert OLD not in repr(settings)
    known = access_from(settings)._tokens
    assert known is not None
    assert [client_name(known, token) for token in (OLD, NEW, SCRAPER)] == ["ci", "free", None]


# Bodies


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/x-www-form-urlencoded", 200),  # what curl -d says
        ("application/vnd.bentoml+pickle", 415),
        ("application/octet-stream", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_the_type_of_a_body_must_be_json(client: Any, content_type: str, status: int) -> None:
    answer = client.post("/generate", content=b"{}", headers=bearer(NEW) | {"Content-Type": content_type})
    assert answer.status_code == status


def test_a_compressed_body_is_refused(client: Any) -> None:
    answer = client.post("/generate", content=b"{}", headers=bearer(NEW) | {"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_values_are_counted_before_they_are_parsed() -> None:
    models = [served(None)]  # latents of eight numbers
    latents = b'{"latents":[' + b",".join([b"[%s]" % b",".join([b"0.1234567890123456"] * 8)] * 1024) + b"]}"
    check_value_count(latents, 1024, models)
    check_value_count(b'{"model":"' + b"x" * 2**23 + b'"}', 1024, models)
    for many in (b"[1," * 10, b"1,", b"[],", b'{"a":1},'):
        with pytest.raises(ApiError, match="more than any request needs") as refused:
            check_value_count(many * 2**18, 1024, models)
        assert refused.value.status == 400


def test_the_command_in_the_docs_makes_a_valid_token() -> None:
    assert parse_tokens(f"ci {secrets.token_urlsafe(32)}")


# Connections


class LateConnection:
    """A connection whose client is always late. A broken one raises."""

    def __init__(self, broken: bool) -> None:
        self.broken = broken
        self.loop = asyncio.get_running_loop()
        self.given_up = self.aborted = 0
        self.often = asyncio.Event()
        self.transport = self

    def expected_from_client(self) -> tuple[str, float]:
        if self.broken:
            raise RuntimeError("broken")
        return "begin", 0.0

    def give_up(self) -> None:
        self.given_up += 1
        if self.given_up == 3:
            self.often.set()

    def abort(self) -> None:
        self.aborted += 1


def test_a_connection_that_raises_does_not_stop_the_watchdog(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stall_watchdog, "_CHECK_SECONDS", 0.001)

    async def watch() -> None:
        watch = stall_watchdog.StallWatchdog()
        broken, slow = LateConnection(broken=True), LateConnection(broken=False)
        watch.add(broken)  # type: ignore[arg-type]  # has all that is asked for
        watch.add(slow)  # type: ignore[arg-type]
        await slow.often.wait()
        assert (broken.given_up, broken.aborted) == (0, 1)
        watch.remove(slow)  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(watch(), 300))
    assert caplog.text.count("a connection could not be checked") == 1
