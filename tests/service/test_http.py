"""The API in-process, so that a test can break the model or fill the queue."""

import asyncio
import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from latentd.service.catalog import Names
from latentd.service.engine import Engine
from latentd.service.gateway import Gateway
from latentd.service.runtime import Runtime
from latentd.service.settings import Settings
from latentd.service.telemetry import Telemetry
from tests.service.fakes import BlockingRunner, Breakable, FixedCatalog, executor, served
from tests.service.test_telemetry import numbers


@pytest.fixture
def client(runner: Breakable) -> Iterator[TestClient]:
    telemetry = Telemetry()
    telemetry.set_served(["m"])
    engine = Engine(max_queue=8, parallel=1, observer=telemetry)
    engine.start()
    settings = Settings(max_samples=8, max_queue=8, max_requests=8, timeout=300)
    runtime = Runtime(settings, FixedCatalog(served(executor(runner, name="m"))), engine, telemetry)
    client = TestClient(Gateway(Starlette(), lambda: client.runtime), raise_server_exceptions=False)
    client.runtime = runtime
    with client:
        yield client
    runner.release()
    engine.close()


def hold(runner: BlockingRunner) -> None:
    while runner.gate.acquire(blocking=False):
        pass
    while runner.started.acquire(blocking=False):
        pass


def error(client: TestClient, headers: dict[str, str] | None = None, **body: object) -> tuple[int, str]:
    answer = client.post("/generate", json=body, headers=headers)
    return answer.status_code, answer.json()["error"]["code"]


def latent(first: float) -> list[list[float]]:
    return [[first, 0, 0, 0, 0, 0, 0, 0]]


def test_points_are_answered_as_numbers_or_npy(client: TestClient) -> None:
    answer = client.post("/generate", json={"latents": latent(0.25)})
    assert answer.json() == {
        "model": "m",
        "version": "0" * 12,
        "format": "json",
        "samples": [{"index": 0, "seed": None, "data": [0.25, 0.0]}],
    }
    npy = client.post("/generate", json={"latents": latent(0.25), "format": "npy"}).json()["samples"][0]["data"]
    assert np.load(io.BytesIO(base64.b64decode(npy))).tolist() == [0.25, 0.0]


def test_a_failing_model_is_500_and_the_next_request_works(client: TestClient) -> None:
    assert error(client, latents=latent(13)) == (500, "internal_server_error")
    assert client.post("/generate", json={"latents": latent(1)}).status_code == 200


def test_a_slow_request_is_504(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    assert error(client, {"X-Request-Timeout": "2"}, seed=1) == (504, "timeout")  # enough to reach the queue
    assert numbers(client.runtime.telemetry, "latentd_expired_samples_total") == {"": 1.0}
    runner.release()
    assert client.post("/generate", json={"seed": 1}).status_code == 200


def test_a_request_may_ask_for_a_shorter_timeout(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    answer = client.post("/generate", json={"seed": 1}, headers={"X-Request-Timeout": "0.05"})
    assert answer.status_code == 504
    assert "0.05 seconds" in answer.json()["error"]["message"]
    assert numbers(client.runtime.telemetry, "latentd_own_deadlines_total") == {"": 1.0}
    runner.release()


def test_a_request_cannot_ask_for_a_longer_timeout(client: TestClient, runner: Breakable) -> None:
    runtime: Runtime = client.runtime
    client.runtime = replace(runtime, settings=runtime.settings.model_copy(update={"timeout": 0.2}))
    hold(runner)
    answer = client.post("/generate", json={"seed": 1}, headers={"X-Request-Timeout": "1000"})
    assert "0.2 seconds" in answer.json()["error"]["message"]
    assert numbers(client.runtime.telemetry, "latentd_own_deadlines_total") == {"": 0.0}  # the service's own timeout


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon", ""])
def test_an_invalid_timeout_is_400(client: TestClient, value: str) -> None:
    assert error(client, {"X-Request-Timeout": value}, seed=1) == (400, "invalid_request")


def test_rows_of_a_timed_out_request_are_not_computed(client: TestClient, runner: Breakable) -> None:
    hold(runner)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/generate", json={"latents": latent(1)})
        runner.wait_for_pass()
        client.post("/generate", json={"latents": latent(2)}, headers={"X-Request-Timeout": "0.1"})
        runner.release()
        assert first.result().status_code == 200
    assert client.post("/generate", json={"latents": latent(3)}).status_code == 200
    assert [first for each in runner.passes for first in each] == [1, 3]


@pytest.mark.parametrize(
    ("receive_timeout", "timeout", "asked", "status"),
    [
        (300, 0.05, "", 408),
        (0.05, 0.05, "", 408),
        (300, 0.05, "1", 408),
        (300, 200, "0.05", 504),
        (300, 200, "300", None),
    ],
)
def test_a_missing_body_is_408_or_504_at_the_requests_own_deadline(
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
            gateway = Gateway(Starlette(), lambda: client.runtime)
            await asyncio.wait_for(gateway(scope, never, send), 300 if status else 1)

    asyncio.run(ask())
    assert answers[:1] == ([status] if status else [])


def test_errors_of_bentomls_files_are_500_in_our_shape(client: TestClient) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    gateway = Gateway(Starlette(routes=[Mount("/files", broken)]), lambda: client.runtime)
    answer = TestClient(gateway).get("/files/a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_server_error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert numbers(client.runtime.telemetry, "latentd_requests_total")["other,,5xx"] == 1


def test_a_stopping_service_is_503(client: TestClient) -> None:
    client.runtime.engine.abort()
    assert error(client, seed=1) == (503, "shutting_down")


def test_models_describe_their_determinism(client: TestClient) -> None:
    told = client.get("/models/m").json()["determinism"]
    assert (told["mode"], told["sizes"], told["fingerprint"]) == (
        "bitwise",
        [16],
        client.runtime.catalog.models["m"].fingerprint,
    )
    answer = client.post("/generate", json={"seed": 1})
    assert answer.headers["x-latentd-fingerprint"] == told["fingerprint_id"]


def test_an_empty_catalog_answers_404(client: TestClient) -> None:
    client.runtime.catalog.names = Names()
    assert error(client, seed=1) == (404, "unknown_model")
    assert client.get("/models").json() == {"default": None, "models": [], "versions": [], "failures": []}
