"""Protocols of other servers, in-process, with models of every kind and classes of any name."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from httpx import Response
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.models.conditions.classes import ClassCondition
from latentd.models.encoding.npy import decode_npy, encode_npy
from latentd.models.outputs.image import ImageOutput
from latentd.service.errors import ApiError
from latentd.service.gateway import Gateway
from latentd.service.protocols.openai import _scale
from latentd.service.samples.response_body import _file_encoder
from tests.service.test_endpoints import SPECS, running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with running(tmp_path_factory.mktemp("models")) as runtime:
        yield TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)


def infer(client: TestClient, model: str, **body: Any) -> Response:
    tensor = {"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [7, 8]}
    return client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]} | body)


def rows(client: TestClient, **fields: Any) -> np.ndarray:
    answer = client.post("/generate", json=fields, headers={"accept": "application/x-npy"})
    return np.asarray(np.load(io.BytesIO(answer.content), allow_pickle=False))


def pixels(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))))


@pytest.mark.parametrize("model", SPECS)
def test_every_kind_of_model_has_tensors(client: TestClient, model: str) -> None:
    metadata = client.get(f"/v2/models/{model}").json()
    (output,) = infer(client, model).json()["outputs"]
    assert output["shape"] == [2, *metadata["outputs"][0]["shape"][1:]]
    samples = np.array(output["data"], np.float32).reshape(output["shape"])
    assert np.array_equal(samples, rows(client, model=model, seeds=[7, 8]))
    truncated = infer(client, model, parameters={"truncation": 0.5}).json()["outputs"][0]["data"]
    expected = rows(client, model=model, seeds=[7, 8], truncation=0.5)
    assert np.array_equal(np.array(truncated, np.float32), expected.reshape(-1))


IMAGES = "/v1/images/generations"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (IMAGES, {"prompt": "cat", "steps": 20}, "steps"),
        (IMAGES, {"prompt": "cat", "background": "transparent"}, "background"),
        (IMAGES, {"prompt": "cat", "n": 0}, "n"),
        (IMAGES, {"prompt": "cat", "n": 1000}, "n"),
        (IMAGES, {"prompt": "cat", "size": "1x1"}, "size"),
        (IMAGES, {"prompt": "cat", "model": "nobody"}, "model"),
        (IMAGES, {"prompt": "cow", "model": "classes"}, "prompt"),
        (IMAGES, {"prompt": 1}, "prompt"),
        ("/v1/models/nobody", None, "model"),
        ("/v2/models/grey/infer", {"steps": 20}, "inputs"),
        ("/v2/models/grey/infer", {"inputs": [], "steps": 20}, "steps"),
        ("/v2/models/grey/infer", {"inputs": []}, "inputs"),
        ("/v2/models/grey/infer", {"inputs": [], "outputs": [{"name": 1}]}, "outputs"),
        ("/v2/models/nobody/infer", {"inputs": [{"name": "seeds"}]}, "inputs"),
        ("/v2/models/nobody", None, "model"),
    ],
)
def test_texts_that_clients_print_name_the_field(client: TestClient, path: str, body: Any, field: str) -> None:
    """tritonclient and OpenAI's package show nothing but the text."""
    error = (client.get(path) if body is None else client.post(path, json=body)).json()["error"]
    if path.startswith("/v1"):
        assert error["param"] == field
        error = error["message"]
    assert error.startswith(f"{field}: ")


@pytest.mark.parametrize("data", [[[7], [8]], [7, 8], [7.0, 8.0]])
def test_tensors_may_be_nested_or_flat(client: TestClient, data: list[Any]) -> None:
    tensor = {"name": "seeds", "datatype": "UINT32", "shape": [2], "data": data}
    assert infer(client, "points", inputs=[tensor]).json() == infer(client, "points").json()


def test_images_of_two_stage_models_are_enlarged(client: TestClient) -> None:
    ask = {"model": "styled", "prompt": "", "seed": 7, "n": 2}
    small, large = (client.post("/v1/images/generations", json=ask | {"size": size}).json() for size in ("auto", None))
    assert small["data"] == large["data"]
    width, height = map(int, small["size"].split("x"))
    large = client.post("/v1/images/generations", json=ask | {"size": f"{width * 3}x{height * 3}"}).json()
    for one, other in zip(small["data"], large["data"], strict=True):
        before, after = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(each["b64_json"])))) for each in (one, other)
        )
        assert np.array_equal(before.repeat(3, 0).repeat(3, 1), after)


@pytest.mark.parametrize(("prompt", "meant"), [("A", "A"), ("a", "a"), ("7", "7"), ("the c++ one", "c++")])
def test_prompts_name_classes_of_any_name(prompt: str, meant: str) -> None:
    assert ClassCondition(names=("A", "a", "7", "c++")).from_prompt(prompt) == meant


def test_names_that_differ_only_in_case_are_not_guessed() -> None:
    with pytest.raises(ValueError, match="names A and a"):
        ClassCondition(names=("A", "a", "7")).from_prompt("an A")


def test_too_many_large_images_are_refused() -> None:
    own_size = (256, 256)
    assert _scale("4096x4096", own_size, 4) == 16
    with pytest.raises(ApiError, match="5 images of 4096x4096; a request may ask for at most 4 of"):
        _scale("4096x4096", own_size, 5)
    with pytest.raises(ApiError, match="4096x4096 or auto"):
        _scale("1000x1000", own_size, 1)
    assert _scale("256x256", own_size, 10_000) == 1


def test_enlarging_keeps_colours_in_place() -> None:
    image = np.random.RandomState(1).uniform(-1, 1, (3, 4, 6)).astype(np.float32)
    output = ImageOutput(channels=3, height=4, width=6)
    small, large = (
        np.asarray(Image.open(io.BytesIO(_file_encoder(output, "png", scale)(image[None])[0]))) for scale in (1, 3)
    )
    assert large.shape == (12, 18, 3)
    assert np.array_equal(small.repeat(3, 0).repeat(3, 1), large)


def test_npy_round_trip() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert np.array_equal(decode_npy(encode_npy(values)), values)
