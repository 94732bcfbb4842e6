"""The table of routes: every route is answered, and as the table describes it."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from latentd.service.gateway import Gateway
from latentd.service.protocols.kserve_schemas import InferAnswer
from latentd.service.protocols.openai import ImagesAnswer
from latentd.service.response_schemas import SamplesAnswer
from latentd.service.routes import ROUTES
from tests.service.test_endpoints import running

PATH_PARAMETERS = {"name": "classes", "build": "none", "version": "none"}
KEYFRAMES = [{"seed": 1}, {"seed": 2}]
SAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"model": "grey", "num_samples": 3}),
    ("/generate", {"model": "grey", "num_samples": 3, "layout": "grid"}),
    ("/generate", {"model": "points", "seed": 1}),
    ("/generate", {"model": "classes", "seed": 1, "num_samples": 2}),
    ("/generate", {"model": "classes", "seed": 1, "label": {"cat": 0.5, "dog": 0.5}}),
    ("/generate", {"model": "classes", "latents": [[0.5] * 8], "label": "owl"}),
    ("/interpolate", {"model": "grey", "keyframes": KEYFRAMES, "steps": 3}),
    ("/interpolate", {"model": "classes", "keyframes": KEYFRAMES, "steps": 3, "layout": "animation"}),
    ("/mix", {"model": "styled-classes", "sources": KEYFRAMES}),
    ("/neighbors", {"model": "classes", "seed": 1, "num_samples": 2}),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with running(tmp_path_factory.mktemp("models")) as runtime:
        yield TestClient(Gateway(Starlette(), lambda: runtime), raise_server_exceptions=False)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.handler], ids=lambda route: route.operation)
def test_every_route_is_found_and_refuses_other_methods(client: TestClient, route: Any) -> None:
    path = route.path.format(**PATH_PARAMETERS)
    answer = client.request(route.method, path, content=b"nonsense" if route.body else None)
    if answer.status_code == 200:
        assert answer.headers["content-type"].partition(";")[0] in route.answers
    else:  # nonsense, or a model, a version or a file that is not there
        takes_json = "application/json" in route.body_types
        assert answer.status_code in (
            400 if takes_json else 415,
            *route.errors,
            *((404, 503) if path.startswith("/v2") else ()),
        )
        route.error_body.model_validate_json(answer.content)
    refused = client.delete(path)
    assert refused.status_code == 405
    assert refused.headers["allow"] == ("POST" if route.method == "POST" else "GET, HEAD")
    route.error_body.model_validate_json(refused.content)
    assert f"the path has the methods {refused.headers['allow']}" in refused.text


@pytest.mark.parametrize(("path", "body"), SAMPLES)
def test_samples_are_answered_as_the_schema_says(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    parsed = SamplesAnswer.model_validate_json(answer.content)
    assert parsed.model_dump(exclude_unset=True) == answer.json()


def test_other_protocols_answer_as_their_schemas_say(client: TestClient) -> None:
    tensor = {"name": "seeds", "datatype": "UINT32", "shape": [2], "data": [7, 8]}
    inferred = client.post("/v2/models/grey/infer", json={"id": "1", "inputs": [tensor]})
    assert InferAnswer.model_validate_json(inferred.content).model_dump(exclude_unset=True) == inferred.json()
    images = client.post("/v1/images/generations", json={"model": "classes", "prompt": "a cat", "n": 2})
    assert ImagesAnswer.model_validate_json(images.content).model_dump(exclude_unset=True) == images.json()


def test_unknown_paths_are_404_in_the_shape_of_their_protocol(client: TestClient) -> None:
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
    assert client.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert isinstance(client.get("/v2/nowhere").json()["error"], str)


@pytest.mark.parametrize("path", ["/models%0A", "/generate%0A", "/models/", "/models/a/b/c", "//models", "/Models"])
def test_paths_are_matched_to_the_letter(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/generate/", "/generate"),
        ("//generate", "/generate"),
        ("/models/grey/", "/models/grey"),
        ("/readyz/", "/readyz"),
    ],
)
def test_a_path_with_too_many_slashes_is_404_and_names_the_right_one(client: TestClient, path: str, meant: str) -> None:
    for refused in (client.get(f"http://testserver{path}"), client.post(f"http://testserver{path}", json={})):
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        assert refused.json()["error"]["message"].endswith(f" {meant}")


def test_head_is_answered_as_get(client: TestClient) -> None:
    assert client.head("/models").status_code == client.head("/models/grey").status_code == 200
