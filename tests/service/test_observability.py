"""The log, request ids and spans, in-process, so that a test can pause the device or break the model."""

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.service.context import RequestContext, request_context
from latentd.service.engine import Engine, Observers
from latentd.service.gateway import Gateway
from latentd.service.observability import access_log, spans
from latentd.service.observability.formatter import LogFormatter, _without_secrets, as_json, as_text, formatter_for
from latentd.service.observability.ids import request_id
from latentd.service.observability.middleware import EngineTimings, RequestMiddleware
from latentd.service.observability.spans import Tracing, tracing_from_environment
from latentd.service.request_schemas import GenerateRequest
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.conftest import eventually
from tests.service.fakes import Breakable, FixedCatalog, executor, served
from tests.service.test_http import hold, latent

Line = dict[str, Any]
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """The lines of the access log."""
    written: list[Line] = []
    monkeypatch.setattr(access_log, "write", lambda text: written.extend(map(json.loads, text.splitlines())))
    return written


@pytest.fixture
def log() -> Iterator[list[Line]]:
    """The other lines of latentd's loggers."""
    told: list[Line] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(json.loads(self.format(record)))

    handler = Collect()
    handler.setFormatter(LogFormatter(as_json))
    ours = logging.getLogger("latentd")
    ours.addHandler(handler)
    yield told
    ours.removeHandler(handler)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(runner: Breakable, exporter: InMemorySpanExporter) -> Iterator[TestClient]:
    """A service as service/app.py builds it; a test may replace `client.runtime`."""
    telemetry, tracing = Telemetry(), Tracing(SimpleSpanProcessor(exporter))
    engine = Engine(max_queue=32, parallel=1, observer=Observers(telemetry, EngineTimings(), tracing))
    engine.start()
    settings = Settings(max_samples=8, max_queue=32, max_requests=8, timeout=300)
    catalog = FixedCatalog(served(executor(runner, name="m")))
    runtime = Runtime(settings, catalog, engine, telemetry)
    gateway = Gateway(Starlette(), lambda: client.runtime, formatter=as_json)
    client = TestClient(gateway, raise_server_exceptions=False)
    client.runtime = runtime
    client.tracing = tracing
    with client:
        yield client
    runner.release()
    engine.close()


def only(lines: list[Line], count: int = 1) -> Line:
    """Wait for `count` lines, which may come a moment after the answer, and return the first."""
    eventually(lambda: len(lines) >= count)
    assert len(lines) == count
    return lines[0]


def traced(client: TestClient) -> TestClient:
    client.runtime = replace(client.runtime, tracing=client.tracing)
    return client


@pytest.mark.parametrize("harmless", [b"a", b"7f3a-0.B_c", b"x" * 128])
def test_a_harmless_id_is_kept(harmless: bytes) -> None:
    assert request_id([(b"host", b"a"), (b"x-request-id", harmless)]) == harmless.decode()


@pytest.mark.parametrize("harmful", [b"", b"x" * 129, b"a b", b"a\n", b"a\x1b[31m", b"<script>", b"\xff", b"a/b", b'"'])
def test_another_id_is_replaced(harmful: bytes) -> None:
    made = {request_id([(b"x-request-id", harmful)]) for _ in range(9)}
    assert len(made) == 9
    assert all(len(each) == 32 for each in made)


def test_the_access_log_has_a_line_for_a_request(client: TestClient, lines: list[Line]) -> None:
    answer = client.post("/generate", json={"num_samples": 3, "seed": 1}, headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    line = only(lines)
    assert line.pop("time").endswith("Z")
    assert 0 <= line.pop("queue_seconds") < 20
    assert 0.25 <= line.pop("compute_seconds") < 20  # what the runner reports
    assert 0 < line.pop("seconds") < 20
    assert line == {
        "level": "info",
        "logger": "latentd.access",
        "message": "POST /generate 200",
        "request_id": "mine",
        "endpoint": "/generate",
        "status": 200,
        "model": "m@" + "0" * 12,
        "samples": 3,
        "batches": 1,
        "bytes": len(answer.content),
        "client": "testclient",
    }


def test_queue_seconds_are_the_time_in_the_queue(client: TestClient, lines: list[Line], runner: Breakable) -> None:
    hold(runner)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/generate", json={"seed": 1})
        runner.wait_for_pass()
        second = pool.submit(client.post, "/generate", json={"num_samples": 2, "seed": 1})
        eventually(lambda: client.runtime.engine.queued == 2)
        time.sleep(0.2)
        runner.release()
        assert {first.result().status_code, second.result().status_code} == {200}
    only(lines, count=2)
    (waited,) = (line for line in lines if line["samples"] == 2)
    assert 0.2 <= waited["queue_seconds"] <= waited["seconds"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "endpoint"),
    [
        ("POST", "/generate", "{", 400, "invalid_request", "/generate"),
        ("POST", "/generate", '{"model": "nope"}', 404, "unknown_model", "/generate"),
        ("PUT", "/generate", "", 405, "method_not_allowed", "other"),
        ("GET", "/models/nope", "", 404, "unknown_model", "/models/{name}"),
        ("GET", "/nowhere", "", 404, "not_found", "other"),
        ("GET", "/%0a%1b%5b31m", "", 404, "not_found", "other"),
    ],
)
def test_a_refusal_has_an_id_and_one_line_without_a_traceback(
    client: TestClient,
    lines: list[Line],
    log: list[Line],
    method: str,
    path: str,
    body: str,
    status: int,
    code: str,
    endpoint: str,
) -> None:
    answer = client.request(method, path, content=body)
    line = only(lines)
    assert answer.headers.get_list("x-request-id") == [line["request_id"]]
    assert (answer.status_code, line["status"], line["code"], line["endpoint"]) == (status, status, code, endpoint)
    assert line["message"].isprintable()
    assert log == []


def test_requests_refused_unread_have_an_id_and_a_line(client: TestClient, lines: list[Line]) -> None:
    runtime: Runtime = client.runtime
    client.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"max_requests": 0}))
    ids = {client.post("/generate", json={"seed": 1}).headers["x-request-id"] for _ in range(2)}
    only(lines, count=2)
    assert ids == {line["request_id"] for line in lines}
    assert len(ids) == 2
    assert {(line["status"], line["code"], line["endpoint"]) for line in lines} == {
        (429, "too_many_requests", "/generate")
    }


def test_probes_are_logged_only_if_they_fail(client: TestClient, lines: list[Line]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": next(statuses), "headers": []})
        await send({"type": "http.response.body", "body": b""})

    probed = TestClient(RequestMiddleware(app, lambda: client.runtime, as_json))
    statuses = iter((200, 503))
    for _ in range(2):
        assert "x-request-id" in probed.get("/readyz").headers
    assert only(lines)["status"] == 503


def test_without_an_access_log_there_are_ids_and_no_lines(client: TestClient, lines: list[Line]) -> None:
    quiet = TestClient(Gateway(Starlette(), lambda: client.runtime))
    assert quiet.get("/nowhere").headers["x-request-id"]
    assert lines == []


def test_a_batch_that_fails_is_logged_with_its_requests(client: TestClient, log: list[Line], runner: Breakable) -> None:
    hold(runner)
    with ThreadPoolExecutor(3) as pool:
        pool.submit(client.post, "/generate", json={"seed": 1})
        runner.wait_for_pass()
        for name in ("one", "two"):
            pool.submit(client.post, "/generate", json={"latents": latent(13)}, headers={"X-Request-Id": name})
        eventually(lambda: client.runtime.engine.queued == 2)
        runner.release()
    (failed,) = (line for line in log if line["logger"] == "latentd.engine")
    assert failed["message"] == "a batch of m failed"
    assert sorted(failed["request_ids"]) == ["one", "two"]
    assert "RuntimeError: the model broke" in failed["traceback"]
    assert sorted(line["request_id"] for line in log if line["logger"] == "latentd.http") == ["one", "two"]


def test_a_failed_stream_is_logged_with_its_id(client: TestClient, lines: list[Line], log: list[Line]) -> None:
    keyframes = [{"latent": latent(13)[0]}, {"latent": latent(13)[0]}]
    answer = client.post(
        "/interpolate", json={"keyframes": keyframes, "steps": 20}, headers=EVENTS | {"X-Request-Id": "streamed"}
    )
    assert answer.headers["x-request-id"] == "streamed"
    assert b"event: error" in answer.content
    line = only(lines)
    assert (line["status"], line["code"], line["samples"]) == (200, "internal_server_error", 20)
    assert line["bytes"] == len(answer.content)
    assert {each["request_id"] for each in log if each["message"] == "a stream failed"} == {"streamed"}


def test_an_app_that_raises_is_answered_and_logged_with_its_id(
    client: TestClient, lines: list[Line], log: list[Line]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    middleware = RequestMiddleware(app, lambda: client.runtime, as_json)
    answer = TestClient(middleware).get("/a", headers={"X-Request-Id": "b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_server_error")
    assert answer.headers["x-request-id"] == "b"
    line = only(lines)
    assert (line["request_id"], line["status"]) == ("b", 500)
    assert [line["request_id"] for line in log] == ["b"]


def record(message: str, *args: object, problem: BaseException | None = None) -> logging.LogRecord:
    told = (type(problem), problem, None) if problem else None
    return logging.LogRecord("latentd.x", logging.WARNING, __file__, 1, message, args, told)


@pytest.mark.parametrize("form", [as_json, as_text])
@pytest.mark.parametrize("hostile", ["a\nb", "a\x1b[31mb", "a\x9bb", "a\r\nb", "a\u2028b", "a\u202eb", "a\udcffb"])
def test_control_characters_are_escaped(form: Any, hostile: str) -> None:
    line = LogFormatter(form).format(record("model %s", hostile))
    assert line.isprintable()
    assert LogFormatter(form).format(record("x", problem=ValueError(hostile))).replace("\n", "").isprintable()


def test_logged_exceptions_do_not_quote_the_client() -> None:
    numbers = [0.123 + place for place in range(64)]
    for text in (f"not {numbers}", f"sent Authorization: Bearer hunter2, {numbers}", f"tensor({numbers})\n[[1.5 2.5 3"):
        line = json.loads(LogFormatter(as_json).format(record("failed: %s", text, problem=RuntimeError(text))))
        del line["time"]  # it may have any digits
        assert "123" not in str(line)
        assert "hunter2" not in str(line)
    with pytest.raises(ValidationError) as found:
        GenerateRequest.model_validate({"latents": [["hunter2"]]})
    assert "hunter2" not in str(found.value)


@pytest.mark.parametrize("run", ["1", "1e", ".5", "1 2 ", "bearer ", "basic\t"])
def test_secrets_are_found_in_linear_time(run: str) -> None:
    assert _without_secrets(run * 300_000 + "x").endswith("x")  # in quadratic time, this would take hours


def test_long_texts_are_cut() -> None:
    endless = "spam " * 10**6
    line = LogFormatter(as_text).format(record("failed: %s", endless, problem=RuntimeError(endless)))
    assert len(line) < 40_000
    assert "RuntimeError: spam" in line


def test_text_has_the_same_fields_as_json() -> None:
    requester_of = request_context.set(RequestContext("id-1", "GET", "/"))
    text = LogFormatter(as_text).format(record("no %s", "memory", problem=ValueError("why")))
    request_context.reset(requester_of)
    first, *rest = text.splitlines()
    assert first.split(" ", 1)[1] == "warning latentd.x: no memory request_id=id-1"
    assert rest == ["ValueError: why"]


@pytest.mark.parametrize(
    ("setting", "terminal", "form"),
    [
        ("auto", True, as_text),
        ("auto", False, as_json),
        ("json", True, as_json),
        ("console", False, as_text),
    ],
)
def test_auto_is_text_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, setting: Any, terminal: bool, form: Any
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert formatter_for(setting) is form


def named(exporter: InMemorySpanExporter, *names: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name in names]


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def test_spans_of_two_requests_in_one_batch(
    client: TestClient, exporter: InMemorySpanExporter, runner: Breakable
) -> None:
    traced(client)
    hold(runner)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.post, "/generate", json={"seed": 1})
        runner.wait_for_pass()
        for name in ("one", "two"):
            pool.submit(client.post, "/generate", json={"seed": 1, "num_samples": 3}, headers={"X-Request-Id": name})
        eventually(lambda: client.runtime.engine.queued == 6)
        runner.release()
        assert first.result().status_code == 200
    requests = {span.attributes["latentd.request_id"]: span for span in named(exporter, "POST /generate")}
    one, two = requests["one"], requests["two"]
    assert one.context.trace_id != two.context.trace_id
    assert dict(one.attributes) == {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "latentd.request_id": "one",
        "latentd.model": "m@" + "0" * 12,
        "latentd.samples": 3,
    }
    (shared,) = (span for span in named(exporter, "batch synthesis") if len(span.links) == 2)
    assert linked(shared) == {one.context.span_id, two.context.span_id}
    assert shared.attributes["latentd.samples"] == 6
    assert shared.parent is None
    for request in (one, two):
        parts = [
            span
            for span in exporter.get_finished_spans()
            if span.parent and span.parent.span_id == request.context.span_id
        ]
        assert [span.name for span in sorted(parts, key=lambda span: span.start_time)] == ["queue", "forward", "encode"]
        assert all(linked(span) == {shared.context.span_id} for span in parts)
        assert {span.context.trace_id for span in parts} == {request.context.trace_id}
        queue, forward, encode = (
            next(span for span in parts if span.name == name) for name in ("queue", "forward", "encode")
        )
        assert request.start_time <= queue.start_time <= queue.end_time <= forward.start_time + 1000
        assert forward.start_time == shared.start_time
        assert forward.end_time - forward.start_time == pytest.approx(0.25e9, abs=1000)  # what the runner reports
        assert encode.end_time <= request.end_time


def test_a_traceparent_is_honoured(client: TestClient, exporter: InMemorySpanExporter, lines: list[Line]) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    traced(client).post("/generate", json={"seed": 1}, headers={"traceparent": f"00-{trace}-{parent}-01"})
    (span,) = named(exporter, "POST /generate")
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (trace, parent)
    assert only(lines)["trace_id"] == trace
    exporter.clear()
    client.post("/generate", json={"seed": 1}, headers={"traceparent": f"00-{trace}-{parent}-00"})
    assert exporter.get_finished_spans() == ()  # the caller does not trace this request


@pytest.mark.parametrize("hostile", ["", "00-0-0-0", "x" * 8000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ÿ"])
def test_a_malformed_traceparent_is_ignored(client: TestClient, exporter: InMemorySpanExporter, hostile: str) -> None:
    answer = traced(client).get(
        "/nowhere", headers={"traceparent": hostile.encode("latin-1"), "tracestate": hostile.encode("latin-1")}
    )
    assert answer.status_code == 404
    (span,) = named(exporter, "GET other")
    assert (span.parent, span.attributes["error.type"]) == (None, "not_found")


def test_trace_headers_are_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    traced(client)
    for text in ("hunter2=a b", "hunter2", "hunter2=1,hunter2=1", "hunter2;;=,"):
        headers = {"baggage": text, "tracestate": text, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        assert client.get("/nowhere", headers=headers).status_code == 404
    assert "hunter2" not in caplog.text


def test_without_an_exporter_there_are_no_spans(client: TestClient, exporter: InMemorySpanExporter) -> None:
    client.post("/generate", json={"seed": 1})
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_tracing_is_off_without_an_exporter(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing_from_environment() is None


def test_an_exporter_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    found = tracing_from_environment()
    assert found is not None
    found.close()


def test_a_missing_exporter_is_logged(monkeypatch: pytest.MonkeyPatch, log: list[Line]) -> None:
    monkeypatch.setattr(spans, "entry_points", lambda **_: [])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert tracing_from_environment() is None
    assert [line["message"] for line in log] == [
        "no spans are sent: the exporter 'otlp_proto_http' is not installed: pip install 'latentd[otlp]'"
    ]
