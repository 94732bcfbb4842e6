"""The API in-process, where a test can break the model or fill the queue."""

import asyncio
import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.testclient import TestClient

from latentd.models.sampling import StageInput
from latentd.service.catalog import Catalog, LoadFailure, ServedModel
from latentd.service.context import RequestContext, request_context
from latentd.service.engine import Engine, ForwardResult
from latentd.service.errors import ApiError
from latentd.service.gateway import Gateway, _Limited
from latentd.service.responses import error_response
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import HeldRunner, executor, rows, served
from tests.service.test_telemetry import numbers


class Breakable(HeldRunner):
    """Breaks where a row begins with 13."""

    def run(self, rows: StageInput, size: int) -> ForwardResult:
        if 13 in rows.latents[:, 0]:
            raise RuntimeError("the model broke")
        return super().run(rows, size)


class FixedCatalog(Catalog):
    """One model without a file."""

    def __init__(self, model: ServedModel) -> None:
        self.models = MappingProxyType({model.name: model})
        self.failures: list[LoadFailure] = []
        self._default_name = model.name


@pytest.fixture
def runner() -> Breakable:
    runner = Breakable()
    runner.release()
    return runner


@pytest.fixture
def client(runner: Breakable) -> Iterator[TestClient]:
    telemetry = Telemetry()
    telemetry.set_served(["m"])
    engine = Engine(max_queue=8, parallel=1, observer=telemetry)
    engine.start()
    settings = Settings(max_samples=8, max_queue=8, max_requests=8, timeout=20)
    runtime = Runtime(settings, FixedCatalog(served(executor(runner, name="m"))), engine, telemetry)
    client = TestClient(Gateway(Starlette(), lambda: client.runtime), raise_server_exceptions=False)
    client.runtime = runtime
    with client:
        yield client
    runner.release()
    engine.close()


def hold(runner: HeldRunner) -> None:
    while runner.gate.acquire(blocking=False):
        pass
    while runner.begun.acquire(blocking=False):
        pass


def error(client: TestClient, headers: dict[str, str] | None = None, **body: object) -> tuple[int, str]:
    answer = client.post("/generate", json=body, headers=headers)
    return answer.status_code, answer.json()["error"]["code"]


def latent(first: float) -> list[list[float]]:
    return [[first, 0, 0, 0, 0, 0, 0, 0]]


def test_points_are_answered(client: TestClient) -> None:
    answer = client.post("/generate", json={"latents": latent(0.25)})
    assert answer.json() == {
        "model": "m",
        "version": "0" * 12,
        "format": "json",
        "samples": [{"index": 0, "seed": None, "data": [0.25, 0.0]}],
    }
    npy = client.post("/generate", json={"latents": latent(0.25), "format": "npy"}).json()["samples"][0]["data"]
    assert np.load(io.BytesIO(base64.b64decode(npy))).tolist() == [0.25, 0.0]


def test_a_model_that_breaks_is_500_and_the_next_request_works(client: TestClient) -> None:
    assert error(client, latents=latent(13)) == (500, "internal_server_error")
    assert client.post("/generate", json={"latents": latent(1)}).status_code == 200


def test_a_request_that_takes_too_long_is_504(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    assert error(client, {"X-Request-Timeout": "0.2"}, seed=1) == (504, "timeout")
    runner.release()
    assert client.post("/generate", json={"seed": 1}).status_code == 200


def test_a_request_may_name_a_shorter_time(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    answer = client.post("/generate", json={"seed": 1}, headers={"X-Request-Timeout": "0.05"})
    assert answer.status_code == 504
    assert "0.05 seconds" in answer.json()["error"]["message"]
    assert numbers(client.runtime.telemetry, "latentd_own_deadlines_total") == {"": 1.0}
    runner.release()


def test_a_request_cannot_ask_for_more_time_than_the_service_gives(client: TestClient, runner: Breakable) -> None:
    runtime: Runtime = client.runtime
    client.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"timeout": 0.2}))
    hold(runner)
    answer = client.post("/generate", json={"seed": 1}, headers={"X-Request-Timeout": "1000"})
    assert "0.2 seconds" in answer.json()["error"]["message"]
    assert numbers(client.runtime.telemetry, "latentd_own_deadlines_total") == {"": 0.0}  # that was the service's


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon", ""])
def test_a_time_that_is_none_is_400(client: TestClient, value: str) -> None:
    assert error(client, {"X-Request-Timeout": value}, seed=1) == (400, "invalid_request")


def test_rows_of_a_request_that_ran_out_of_time_are_not_computed(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    client.post("/generate", json={"latents": latent(1)}, headers={"X-Request-Timeout": "0.1"})  # in its pass
    client.post("/generate", json={"latents": latent(2)}, headers={"X-Request-Timeout": "0.1"})  # behind it
    runner.release()
    assert client.post("/generate", json={"latents": latent(3)}).status_code == 200
    assert [first for each in runner.passes for first in each] == [1, 3]


def test_a_full_queue_is_429(client: TestClient, runner: Breakable) -> None:
    runtime: Runtime = client.runtime
    hold(runner)

    async def fill() -> list[int]:
        model = runtime.catalog.models["m"].deployment.synthesis_executor
        assert model is not None
        futures = [runtime.engine.submit(model, rows(1), list, len)]  # in the pass
        await asyncio.to_thread(runner.wait_for_pass)
        futures.append(runtime.engine.submit(model, rows(*range(8)), list, len))  # as many as the queue holds
        refused = await asyncio.to_thread(client.post, "/generate", json={"seed": 2})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        runner.release()
        return list(await asyncio.gather(*futures))

    assert asyncio.run(fill()) == [1, 8]
    assert client.post("/generate", json={"seed": 1}).status_code == 200


def test_retry_after_is_what_the_measured_rate_says(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Runtime = client.runtime
    monkeypatch.setattr(runtime.engine._queue.room, "size", 2)
    monkeypatch.setattr(runtime.engine._rate, "seconds_for", lambda excess: excess * 2.1)
    refused = client.post("/generate", json={"num_samples": 4, "seed": 0})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "5"  # two too many, 2.1 s each, in whole seconds


def test_more_requests_than_there_may_be_are_turned_away_unread(client: TestClient) -> None:
    go_on = asyncio.Event()
    answers: list[int] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go_on.wait()
        await Response()(scope, receive, send)

    async def ask(limited: _Limited) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answers.append(message["status"])

        async def receive() -> Any:
            if sent_slowly:
                await go_on.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        try:
            await limited({"type": "http"}, receive, send)
        except ApiError as problem:
            await error_response(problem)({"type": "http"}, receive, send)

    async def flood() -> None:
        nonlocal sent_slowly
        limited = _Limited(slow, lambda: client.runtime)
        sending = asyncio.create_task(ask(limited))  # takes no place before its body is there, and may find none then
        await asyncio.sleep(0)
        sent_slowly = False
        held = [sending, *(asyncio.create_task(ask(limited)) for _ in range(8))]
        await asyncio.sleep(0)
        await ask(limited)
        assert answers == [429]
        assert client.runtime.places.taken == 8
        go_on.set()
        await asyncio.gather(*held)
        await ask(limited)
        assert sorted(answers) == [200] * 9 + [429] * 2
        assert client.runtime.places.taken == 0

    sent_slowly = True
    asyncio.run(flood())


def test_one_token_cannot_take_all_places() -> None:
    async def ask(limited: _Limited, client: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append((client, message["status"]))

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        request_context.set(RequestContext(client=client))
        try:
            await limited({"type": "http"}, receive, send)
        except ApiError as problem:
            await error_response(problem)({"type": "http"}, receive, send)

    async def crowd() -> None:
        go_on = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await go_on.wait()
            await Response()(scope, receive, send)

        engine = Engine(max_queue=8, parallel=1)
        runtime = Runtime(Settings(max_requests=16), FixedCatalog(served(None)), engine, Telemetry())
        limited = _Limited(slow, lambda: runtime)
        greedy, other = "greedy", "other"
        asking = [asyncio.create_task(ask(limited, greedy)) for _ in range(20)]
        await asyncio.sleep(0)
        assert answered == [("greedy", 429)] * 6  # 14 of 16 are seven eighths
        asking.append(asyncio.create_task(ask(limited, other)))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*asking)
        assert answered.count(("greedy", 200)) == 14
        assert answered.count(("other", 200)) == 1
        assert runtime.places.taken == 0

    answered: list[tuple[str, int]] = []
    asyncio.run(crowd())


def test_bodies_that_are_not_whole_do_not_fill_the_memory(client: TestClient) -> None:
    client.runtime = replace(client.runtime, settings=client.runtime.settings.model_copy(update={"max_body": 1024}))
    gateway = Gateway(Starlette(), lambda: client.runtime)
    scope: Any = {"type": "http", "method": "POST", "path": "/generate", "headers": []}
    answers: list[int] = []

    async def send(message: Any) -> None:
        answers.append(message.get("status"))

    def pieces() -> Any:
        sent = False

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": b" " * 1000, "more_body": True}

        return receive

    async def flood() -> None:
        waiting = [asyncio.create_task(gateway(dict(scope, state={}), pieces(), send)) for _ in range(16)]
        await asyncio.sleep(0.1)
        assert answers == []
        await asyncio.gather(*(gateway(dict(scope, state={}), pieces(), send) for _ in range(5)))
        assert [status for status in answers if status] == [429] * 5
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)

    asyncio.run(flood())
    assert client.post("/generate", json={"seed": 1}).status_code == 200


@pytest.mark.parametrize(
    ("receive_timeout", "timeout", "asked", "status"),
    [(30, 0.05, "", 408), (0.05, 0.05, "", 408), (30, 0.05, "1", 408), (30, 20, "0.05", 504), (30, 20, "30", None)],
)
def test_whose_time_a_body_takes_that_does_not_come(
    client: TestClient, receive_timeout: float, timeout: float, asked: str, status: int | None
) -> None:
    changes = {"receive_timeout": receive_timeout, "timeout": timeout}
    client.runtime = replace(client.runtime, settings=client.runtime.settings.model_copy(update=changes))
    answers: list[int] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        answers.append(message.get("status"))

    headers = [(b"x-request-timeout", asked.encode())] if asked else []
    scope: Any = {"type": "http", "method": "POST", "path": "/generate", "headers": headers, "state": {}}

    async def ask() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(Gateway(Starlette(), lambda: client.runtime)(scope, never, send), 1)

    asyncio.run(ask())
    assert answers[:1] == ([status] if status else [])


def test_what_breaks_beside_the_api_is_a_500_like_all_others(client: TestClient) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    gateway = Gateway(Starlette(routes=[Mount("/files", broken)]), lambda: client.runtime)
    answer = TestClient(gateway).get("/files/a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_server_error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert numbers(client.runtime.telemetry, "latentd_requests_total")["other,,5xx"] == 1


def test_a_service_that_stops_is_503(client: TestClient) -> None:
    client.runtime.engine.abort()
    assert error(client, seed=1) == (503, "shutting_down")


def test_determinism_is_told(client: TestClient) -> None:
    told = client.get("/models/m").json()["determinism"]
    assert (told["mode"], told["sizes"], told["fingerprint"]) == (
        "bitwise",
        [16],
        client.runtime.catalog.models["m"].fingerprint,
    )
    answer = client.post("/generate", json={"seed": 1})
    assert answer.headers["x-latentd-fingerprint"] == told["fingerprint_id"]


def test_an_empty_catalog_answers_404(client: TestClient) -> None:
    client.runtime.catalog.models = MappingProxyType({})
    assert error(client, seed=1) == (404, "unknown_model")
    assert client.get("/models").json() == {"default": None, "models": [], "failures": []}
