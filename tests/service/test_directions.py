"""Directions in requests, in-process with a real catalog: models of one and two stages, and one without directions."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from httpx import Response
from starlette.testclient import TestClient

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.models.decision_surface import DecisionSurface
from latentd.models.directions import Directions
from latentd.models.encoding.metadata import read_metadata
from latentd.models.families import build_generator
from latentd.models.latents import seed_to_row, truncate
from latentd.models.sampling import generate_rows, run_stage
from latentd.models.stage_input import StageInput
from latentd.service.runtime import Runtime
from tests import two_stage
from tests.conftest import card_of, image_spec, points_spec, spec_of
from tests.directions_of import NAMES, write_directions
from tests.service.in_process import SMALL_LIMITS, client_of, runtime_of

SPECS = {
    "grey": image_spec(),
    "classes": image_spec(conditional=True),
    "styled": two_stage.spec(),
    "points": points_spec(),
    "steep": spec_of("linear", points_spec().output.model_copy(update={"dim": 8})),
}
PLAIN = "points"
"""The model without directions; it has a decision surface."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    folder = tmp_path_factory.mktemp("models")
    with two_stage.registered():
        for name, spec in SPECS.items():
            torch.manual_seed(1)
            path = folder / f"{name}.safetensors"
            weights = build_generator(spec).state_dict()
            if name == "steep":
                weights["layer.weight"] *= 100.0
            version = write_checkpoint(path, card_of(spec), weights).version
            if name == PLAIN:
                DecisionSurface(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), (-2.0, 2.0, -1.0, 1.0)).write(path, version)
            else:
                write_directions(path)
        with runtime_of(folder, default="grey", parallel=2, settings=SMALL_LIMITS) as runtime:
            yield runtime


@pytest.fixture
def client(runtime: Runtime) -> TestClient:
    return client_of(runtime)


def post(client: TestClient, path: str = "/generate", accept: str = "*/*", **body: Any) -> Response:
    return client.post(path, json=body, headers={"Accept": accept})


def data(client: TestClient, path: str = "/generate", **body: Any) -> list[Any]:
    answer = post(client, path, **body)
    assert answer.status_code == 200, answer.text
    return [sample["data"] for sample in answer.json()["samples"]]


def refused(client: TestClient, **body: Any) -> tuple[int, str, str | None]:
    answer = post(client, **body)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["field"]


def directions_of(runtime: Runtime, model: str = "grey") -> Directions:
    found = runtime.catalog.find(model).directions
    assert found is not None
    return found


def array(sample: str) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(sample))))


def test_a_direction_is_added_after_truncation(client: TestClient, runtime: Runtime) -> None:
    generator = Checkpoint.read(runtime.catalog.find("grey").file).build()
    latent = truncate(seed_to_row(SPECS["grey"], 7).input, 0.5)
    edited = latent.astype(np.float64) + 2.5 * directions_of(runtime).vectors["sleeves"].astype(np.float64)
    (sample,) = data(client, seed=7, truncation=0.5, directions={"sleeves": 2.5}, format="npy")
    assert np.array_equal(array(sample), generate_rows(generator, StageInput(edited[None].astype(np.float32)))[0])
    (without,) = data(client, seed=7, truncation=0.5, format="npy")
    assert not np.array_equal(array(sample), array(without))


def test_in_w_a_direction_is_added_to_every_layer(client: TestClient, runtime: Runtime) -> None:
    mapping, synthesis = Checkpoint.read(runtime.catalog.find("styled").file).build().stages
    w = run_stage(mapping, StageInput(seed_to_row(SPECS["styled"], 7).input[None]))  # [1, layers, dim]
    offset = directions_of(runtime, "styled").offset({"sleeves": 1.5})
    (sample,) = data(client, model="styled", seed=7, directions={"sleeves": 1.5}, format="npy")
    edited = (w.astype(np.float64) + offset).astype(np.float32)
    assert np.array_equal(array(sample), run_stage(synthesis, StageInput(edited))[0])


@pytest.mark.parametrize("model", ["grey", "classes", "styled"])
def test_bytes_do_not_depend_on_the_batch_or_the_endpoint(client: TestClient, model: str) -> None:
    ask = {"model": model, "directions": {"brightness": -1.5, "sleeves": 2}, "truncation": 0.8}
    together = data(client, seeds=list(range(16)), **ask)
    assert [data(client, seed=seed, **ask)[0] for seed in (0, 5, 15)] == [together[seed] for seed in (0, 5, 15)]
    frames = data(client, "/interpolate", keyframes=[{"seed": 5}, {"seed": 9}], steps=3, **ask)
    assert (frames[0], frames[2]) == (together[5], together[9])
    assert frames[1] != frames[0]
    assert data(client, "/mix", sources=[{"seed": 5}], **ask) == [together[5]]
    assert data(client, "/neighbors", seed=5, angle=0, num_samples=1, **ask) == [together[5]]
    assert data(client, seed=5, model=model, truncation=0.8) != [together[5]]


@pytest.mark.parametrize("layout", ["separate", "grid"])
def test_amounts_of_zero_change_nothing(client: TestClient, runtime: Runtime, layout: str) -> None:
    plain = post(client, seed=3, num_samples=2, layout=layout)
    zero = post(client, seed=3, num_samples=2, layout=layout, directions={"sleeves": 0, "brightness": -0.0})
    assert zero.content == plain.content
    assert "x-latentd-directions" not in zero.headers
    pinned = post(client, seed=3, num_samples=2, layout=layout, directions_version=directions_of(runtime).version)
    assert pinned.content == plain.content


def test_answers_and_files_name_the_directions(client: TestClient, runtime: Runtime) -> None:
    version = directions_of(runtime).version
    amounts = {"sleeves": 2.0}
    answer = post(client, seed=3, directions=amounts | {"brightness": 0})
    assert answer.json()["directions_version"] == answer.headers["x-latentd-directions"] == version
    file = base64.b64decode(answer.json()["samples"][0]["data"])
    name = json.loads(read_metadata(file) or "")
    assert (name["seed"], name["directions"], name["directions_version"]) == (3, amounts, version)
    again = post(
        client, accept="image/png", seed=3, directions=name["directions"], directions_version=name["directions_version"]
    )
    assert again.content == file
    request = json.loads(again.headers["x-latentd-request"])["request"]
    assert (request["directions"], request["directions_version"]) == (amounts, version)
    grid = post(client, accept="image/png", seed=3, num_samples=4, directions=amounts)
    carried = json.loads(read_metadata(grid.content) or "")["request"]
    assert carried["directions_version"] == version
    assert post(client, accept="image/png", **carried).content == grid.content
    animation = post(
        client, "/interpolate", "image/gif", keyframes=[{"seed": 1}, {"seed": 2}], steps=3, directions={"sleeves": 1}
    )
    carried = json.loads(read_metadata(animation.content) or "")["request"]
    assert post(client, "/interpolate", "image/gif", **carried).content == animation.content
    assert "directions_version" not in post(client, seed=3).json()


def test_a_stream_names_its_directions_version(client: TestClient, runtime: Runtime) -> None:
    keyframes = [{"seed": 1}, {"seed": 2}]
    answer = post(client, "/interpolate", "text/event-stream", keyframes=keyframes, directions={"sleeves": 1})
    start = json.loads(answer.text.split("data: ")[1].split("\n")[0])
    assert start["directions_version"] == directions_of(runtime).version


def test_the_metadata_has_the_latent_before_the_edit(client: TestClient) -> None:
    latent = [0.5] * 8
    (file,) = data(client, latents=[latent], directions={"sleeves": 2})
    name = json.loads(read_metadata(base64.b64decode(file)) or "")
    assert np.frombuffer(base64.b64decode(name["latent"]), "<f4").tolist() == latent


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ({"directions": {"collar": 1}}, 400, "invalid_request", "directions"),
        ({"directions": {"collar": 0}}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": "much"}}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": None}}, 400, "invalid_request", "directions"),
        ({"directions": ["sleeves"]}, 400, "invalid_request", "directions"),
        ({"directions": {f"d{index}": 1 for index in range(65)}}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": 1e300}}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": 1e308, "brightness": -1e308}}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": 3e38}, "model": "steep"}, 400, "invalid_request", "directions"),
        ({"directions": {"sleeves": 1}, "model": PLAIN}, 400, "invalid_request", "directions"),
        ({"directions_version": "0" * 12}, 404, "version_not_served", "directions_version"),
        (
            {"directions_version": "0" * 12, "directions": {"sleeves": 1}},
            404,
            "version_not_served",
            "directions_version",
        ),
        ({"directions_version": "0" * 12, "model": PLAIN}, 404, "version_not_served", "directions_version"),
    ],
)
def test_invalid_directions_are_refused(
    client: TestClient, asked: dict[str, Any], status: int, code: str, field: str
) -> None:
    assert refused(client, **asked) == (status, code, field)


def test_nan_and_infinity_are_refused(client: TestClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        answer = client.post("/generate", content='{"directions": {"sleeves": ' + number + "}}")
        assert (answer.status_code, answer.json()["error"]["field"]) in [(400, "directions"), (400, None)]


def test_an_unknown_direction_is_answered_with_the_known_ones(client: TestClient) -> None:
    message = post(client, directions={"collar": 1}).json()["error"]["message"]
    assert "collar" in message
    assert all(name in message for name in NAMES)


def test_directions_are_listed(client: TestClient, runtime: Runtime) -> None:
    found = directions_of(runtime)
    model = runtime.catalog.find("grey")
    listed = client.get("/models/grey/directions").json()
    assert (listed["model"], listed["version"]) == ("grey", model.version)
    assert (listed["directions_version"], listed["space"]) == (found.version, "z")
    assert [each["name"] for each in listed["directions"]] == list(NAMES)
    assert set(listed["directions"][0]) == {"name", "method", "about", "score", "scored", "range", "preview"}
    assert client.get("/models/styled/directions").json()["space"] == "w"
    none = client.get(f"/models/{PLAIN}/directions").json()
    assert (none["directions_version"], none["directions"]) == (None, [])
    assert client.get("/models/nobody/directions").json()["error"]["code"] == "unknown_model"
    of_all = {each["name"]: each for each in client.get("/models").json()["models"]}
    assert (of_all["grey"]["directions_version"], of_all[PLAIN]["directions_version"]) == (found.version, None)
    assert client.post("/models/grey/directions").status_code == 405


def test_the_decision_surface_is_shown(client: TestClient) -> None:
    shown = client.get(f"/models/{PLAIN}/surface").json()
    assert (shown["extent"], shown["values"]) == ([-2.0, 2.0, -1.0, 1.0], [[0.0, 1.0], [2.0, 3.0]])
    missing = client.get("/models/grey/surface")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_surface")
    of_all = {each["name"]: each for each in client.get("/models").json()["models"]}
    assert (of_all[PLAIN]["surface"], of_all["grey"]["surface"]) == (True, False)
