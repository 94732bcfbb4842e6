"""The API in-process, where a test can break the model or fill the queue."""

import base64
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from torch import Tensor, nn

from models.family import Generator
from service.catalog import Catalog, ServedModel
from service.engine import Engine
from service.http import Runtime, create_api
from service.settings import Settings
from tests.conftest import card_of, points_spec

SPEC = points_spec()


class Breakable(Generator):
    """Gives the first two latent numbers back, once its gate is open; breaks where the first is 13."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.weight = nn.Parameter(torch.zeros(1))
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        self.entered.set()
        assert self.gate.wait(timeout=30)
        if (z[:, 0] == 13).any():
            raise RuntimeError("the model broke")
        return z[:, :2]


@pytest.fixture
def generator() -> Breakable:
    return Breakable()


@pytest.fixture
def client(generator: Breakable) -> Iterator[TestClient]:
    engine = Engine(max_queue=8)
    engine.start()
    model = ServedModel("m", "0" * 12, card_of(SPEC), generator, {"threads": 1})
    api = create_api()
    with ThreadPoolExecutor(4) as workers:
        settings = Settings(max_samples=8, max_queue=8, timeout=0.5)
        api.state.runtime = Runtime(settings, Catalog("m", {"m": model}), engine, workers)
        with TestClient(api, raise_server_exceptions=False) as client:
            yield client
    generator.gate.set()
    engine.close()


def error(client: TestClient, **body: object) -> tuple[int, str]:
    answer = client.post("/generate", json=body)
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


def test_a_request_that_takes_too_long_is_504(client: TestClient, generator: Breakable) -> None:
    generator.gate.clear()
    assert error(client, seed=1) == (504, "timeout")
    generator.gate.set()
    assert client.post("/generate", json={"seed": 1}).status_code == 200


def test_a_full_queue_is_429(client: TestClient, generator: Breakable) -> None:
    runtime: Runtime = client.app.state.runtime
    generator.gate.clear()
    queued = []
    for count in (1, 8):  # one in the forward pass, then as many as the queue holds
        rows = np.zeros((count, 8), dtype=np.float32)
        queued.append(runtime.engine.submit(runtime.catalog.models["m"], rows, [None] * count))
        assert generator.entered.wait(timeout=10)
    refused = client.post("/generate", json={"seed": 2})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert refused.headers["retry-after"] == "1"
    generator.gate.set()
    assert [len(future.result(timeout=10)) for future in queued] == [1, 8]
    assert client.post("/generate", json={"seed": 1}).status_code == 200


def test_an_empty_catalog_answers_404(client: TestClient) -> None:
    client.app.state.runtime.catalog.models.clear()
    assert error(client, seed=1) == (404, "unknown_model")
    assert client.get("/models").json() == {"default": None, "models": [], "failures": []}
