"""The sampling endpoints, in-process with a real catalog: image models with one and two stages, and points."""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from httpx import Response
from PIL import Image
from starlette.testclient import TestClient

from latentd.models.checkpoint import Checkpoint
from latentd.models.encoding.metadata import read_metadata
from latentd.models.interpolation import neighbor, slerp, spherical_mean
from latentd.models.latents import seed_to_row, seeds_to_rows
from latentd.models.sampling import generate_rows
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageInput
from latentd.service.engine import Engine
from latentd.service.runtime import Runtime
from tests import two_stage
from tests.conftest import image_spec, points_spec, spec_of
from tests.service.in_process import SMALL_LIMITS, client_of, runtime_of, write_models

SPECS = {
    "grey": image_spec(),
    "classes": image_spec(conditional=True),
    "points": points_spec(),
    "cube": spec_of("mlp", points_spec().output, distribution="uniform", hidden=(16,)),
    "styled": two_stage.spec(),
    "styled-classes": two_stage.spec(conditional=True),
}


@contextmanager
def running(folder: Path) -> Iterator[Runtime]:
    """Serve SPECS from files in `folder`."""
    with two_stage.registered():
        write_models(folder, SPECS)
        with runtime_of(folder, default="grey", parallel=2, settings=SMALL_LIMITS) as runtime:
            yield runtime


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running(tmp_path_factory.mktemp("models")) as runtime:
        yield runtime


@pytest.fixture
def client(runtime: Runtime) -> TestClient:
    return client_of(runtime)


def post(client: TestClient, path: str, accept: str = "*/*", **body: Any) -> Response:
    return client.post(path, json=body, headers={"Accept": accept})


def good(client: TestClient, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = post(client, path, **body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["samples"]
    return found


def array(sample: dict[str, Any]) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(sample["data"]))))


def arrays(client: TestClient, path: str, **body: Any) -> list[np.ndarray]:
    return [array(sample) for sample in good(client, path, format="npy", **body)]


def refused(client: TestClient, path: str, **body: Any) -> tuple[int, str | None]:
    answer = post(client, path, **body)
    return answer.status_code, answer.json()["error"]["field"]


def seeds(*each: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"seed": seed, **fields} for seed in each]


def weights_of(runtime: Runtime, name: str) -> Any:
    return Checkpoint.read(runtime.catalog.find(name).file).build()


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize("truncation", [None, 0.6])
def test_frames_at_keyframes_are_the_seeds_samples(
    client: TestClient, model: str, space: str, truncation: float | None
) -> None:
    if space == "w" and not model.startswith("styled"):
        return
    ask = {"model": model, "truncation": truncation}
    frames = good(client, "/interpolate", keyframes=seeds(3, 1, 2), steps=4, space=space, **ask)
    assert len(frames) == 7
    assert [frame["index"] for frame in frames] == list(range(7))
    expected = good(client, "/generate", seeds=[3, 1, 2], **ask)
    for frame, sample in zip(frames[::3], expected, strict=True):
        assert frame | {"index": 0} == sample | {"index": 0}
    assert [frame["seed"] for frame in frames] == [3, None, None, 1, None, None, 2]
    assert len({str(frame["data"]) for frame in frames}) == 7


@pytest.mark.parametrize("model", SPECS)
@pytest.mark.parametrize("truncation", [None, 0.6])
def test_samples_equal_those_made_without_the_service(
    client: TestClient, runtime: Runtime, model: str, truncation: float | None
) -> None:
    expected = generate_rows(weights_of(runtime, model), seeds_to_rows(SPECS[model], [5, 6]), truncation or 1.0)
    assert np.array_equal(arrays(client, "/generate", model=model, seeds=[5, 6], truncation=truncation), expected)


def test_frames_between_keyframes_are_slerps(client: TestClient, runtime: Runtime) -> None:
    spec = SPECS["grey"]
    latents = [seed_to_row(spec, seed).input for seed in (5, 6)]
    between = slerp(latents[0], latents[1])(0.25)
    frames = arrays(client, "/interpolate", keyframes=seeds(5, 6), steps=5)
    assert np.array_equal(frames[1], generate_rows(weights_of(runtime, "grey"), StageInput(between[None]))[0])
    straight = arrays(client, "/interpolate", keyframes=seeds(5, 6), steps=5, method="lerp")
    assert not np.array_equal(frames[2], straight[2])
    smooth = arrays(client, "/interpolate", keyframes=seeds(5, 6), steps=5, easing="smooth")
    assert np.array_equal(smooth[2], frames[2])
    assert not np.array_equal(smooth[1], frames[1])


def test_a_loop_does_not_repeat_its_beginning(client: TestClient) -> None:
    once = arrays(client, "/interpolate", keyframes=seeds(1, 2, 3), steps=3)
    loop = arrays(client, "/interpolate", keyframes=seeds(1, 2, 3), steps=3, loop=True)
    assert len(once) == 5
    assert len(loop) == 6
    assert all(np.array_equal(*pair) for pair in zip(once, loop, strict=False))
    back = arrays(client, "/interpolate", keyframes=seeds(3, 1), steps=3)
    assert np.array_equal(loop[5], back[1])


def test_classes_change_between_keyframes(client: TestClient) -> None:
    frames = good(
        client,
        "/interpolate",
        model="classes",
        keyframes=[{"seed": 1, "label": "cat"}, {"seed": 1, "label": "owl"}],
        steps=5,
    )
    assert [frame["label"] for frame in frames] == [
        "cat",
        {"cat": 0.75, "owl": 0.25},
        {"cat": 0.5, "owl": 0.5},
        {"cat": 0.25, "owl": 0.75},
        "owl",
    ]
    (again,) = good(client, "/generate", model="classes", seed=1, label={"cat": 0.5, "owl": 0.5}, format="npy")
    (frame,) = arrays(
        client,
        "/interpolate",
        model="classes",
        keyframes=[{"seed": 1, "label": 0}, {"seed": 1, "label": 2}],
        steps=3,
    )[1:2]
    assert np.array_equal(array(again), frame)


def test_w_is_interpolated_linearly_and_truncated_toward_its_mean(client: TestClient, runtime: Runtime) -> None:
    generator = weights_of(runtime, "styled")
    z = torch.from_numpy(np.stack([seed_to_row(SPECS["styled"], seed).input for seed in (1, 2)]))
    with torch.inference_mode():
        w = generator.map(z)
        w = generator.mean_w + 0.5 * (w - generator.mean_w)
        middle = generator.synthesize((w[:1] + w[1:]) / 2)[0].numpy()
    frames = arrays(client, "/interpolate", model="styled", keyframes=seeds(1, 2), steps=3, space="w", truncation=0.5)
    assert frames[1] == pytest.approx(middle, abs=1e-5)


@pytest.mark.parametrize("model", ["grey", "classes", "styled", "styled-classes"])
def test_mixing_one_source_gives_its_sample(client: TestClient, model: str) -> None:
    for space in ("z", "w") if model.startswith("styled") else ("z",):
        sources = [{"seed": 4, "weight": 2.5}, {"seed": 5, "weight": 0}]
        (mixed,) = good(client, "/mix", model=model, sources=sources, space=space)
        (sample,) = good(client, "/generate", model=model, seed=4)
        assert mixed == sample


def test_a_mixture_is_a_spherical_mean(client: TestClient, runtime: Runtime) -> None:
    latents = np.stack([seed_to_row(SPECS["grey"], seed).input for seed in (1, 2, 3)])
    expected = spherical_mean(latents, [1, 2, -0.5])
    sources = [{"seed": 1}, {"seed": 2, "weight": 2}, {"seed": 3, "weight": -0.5}]
    (mixed,) = arrays(client, "/mix", sources=sources)
    assert np.array_equal(mixed, generate_rows(weights_of(runtime, "grey"), StageInput(expected[None]))[0])


def test_layers_take_their_styles_from_sources(client: TestClient, runtime: Runtime) -> None:
    generator = weights_of(runtime, "styled")
    z = torch.from_numpy(np.stack([seed_to_row(SPECS["styled"], seed).input for seed in (1, 2)]))
    with torch.inference_mode():
        w = generator.map(z)
        expected = generator.synthesize(torch.stack([w[0, 0], w[1, 1], w[0, 2]])[None])[0].numpy()
    (mixed,) = arrays(client, "/mix", model="styled", sources=seeds(1, 2), layers=[0, 1, 0])
    assert mixed == pytest.approx(expected, abs=1e-5)
    (same,) = good(client, "/mix", model="styled", sources=seeds(1, 2), layers=[1, 1, 1])
    assert same == good(client, "/generate", model="styled", seed=2)[0]


def test_neighbors_are_drawn_from_seeds(client: TestClient, runtime: Runtime) -> None:
    center = seed_to_row(SPECS["grey"], 9).input
    expected = np.stack([neighbor(center, 15, seed) for seed in (100, 101, 102)])
    found = arrays(client, "/neighbors", seed=9, num_samples=3, angle=15, neighbor_seed=100)
    assert np.array_equal(np.stack(found), generate_rows(weights_of(runtime, "grey"), StageInput(expected)))
    (last,) = arrays(client, "/neighbors", seed=9, num_samples=1, angle=15, neighbor_seed=102)
    assert np.array_equal(last, found[2])
    (itself,) = good(client, "/neighbors", seed=9, num_samples=1, angle=0)
    assert itself["data"] == good(client, "/generate", seed=9)[0]["data"]
    assert len(good(client, "/neighbors", model="cube", seed=1, angle=90, num_samples=16)) == 16


def test_neighbors_name_their_seeds(client: TestClient) -> None:
    found = good(client, "/neighbors", model="classes", seed=9, num_samples=2, neighbor_seed=7)
    assert [sample["neighbor_seed"] for sample in found] == [7, 8]
    label = good(client, "/generate", model="classes", seed=9)[0]["label"]
    assert [sample["label"] for sample in found] == [label, label]


def reproduced(client: TestClient, file: bytes) -> bytes:
    """Make a file again from its metadata, as `latentd reproduce` does."""
    name = json.loads(read_metadata(file) or "")
    answer = post(client, name["endpoint"], **name["request"])
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["samples"][name["index"]]["data"])


def test_a_sample_made_in_w_is_reproduced_from_its_metadata(client: TestClient) -> None:
    for path, ask in (
        ("/interpolate", {"keyframes": seeds(1, 2), "steps": 3, "space": "w", "truncation": 0.7}),
        ("/mix", {"sources": seeds(1, 2), "layers": [0, 1, 0]}),
        ("/mix", {"sources": seeds(1, 2), "space": "w"}),
    ):
        sample = good(client, path, model="styled", **ask)[1 if path == "/interpolate" else 0]
        file = base64.b64decode(sample["data"])
        assert reproduced(client, file) == file


def test_a_request_sent_again_gives_the_same_answer(client: TestClient) -> None:
    for path, ask in (
        ("/mix", {"model": "styled", "sources": seeds(1, 2), "layers": [0, 1, 0]}),
        ("/neighbors", {"num_samples": 3}),
        ("/generate", {"model": "classes", "num_samples": 3, "label": {"cat": 0.25, "owl": 0.75}}),
    ):
        answer = post(client, path, "image/png", **ask)
        request = json.loads(answer.headers["x-latentd-request"])
        assert post(client, request["endpoint"], "image/png", **request["request"]).content == answer.content


def test_a_long_interpolation_in_w_does_not_need_a_longer_queue(client: TestClient) -> None:
    for space in ("z", "w"):
        ask = {"model": "styled", "keyframes": seeds(1, 2), "steps": 150, "space": space}
        assert len(good(client, "/interpolate", **ask)) == 150


def test_a_frame_between_classes_is_reproduced_from_its_metadata(client: TestClient) -> None:
    keyframes = [{"seed": 1, "label": "cat"}, {"seed": 2, "label": "owl"}, {"seed": 3, "label": "owl"}]
    for frame in good(client, "/interpolate", model="classes", keyframes=keyframes, steps=14):
        file = base64.b64decode(frame["data"])
        name = json.loads(read_metadata(file) or "")
        named = {"seed": name["seed"]} if "seed" in name else {"latents": [latent_in(name)]}
        (again,) = good(client, "/generate", model="classes", label=name["label"], **named)
        assert base64.b64decode(again["data"]) == file


def latent_in(name: dict[str, Any]) -> list[float]:
    return [float(number) for number in np.frombuffer(base64.b64decode(name["latent"]), dtype="<f4")]


def test_class_weights_are_normalized(client: TestClient) -> None:
    (nearly,) = good(client, "/generate", model="classes", seed=1, label={"cat": 0.99991})
    assert nearly == good(client, "/generate", model="classes", seed=1, label="cat")[0]


def test_labels_may_be_in_upper_or_lower_case(client: TestClient) -> None:
    (cat,) = good(client, "/generate", model="classes", seed=1, label="cat")
    assert good(client, "/generate", model="classes", seed=1, label="CAT") == [cat]
    assert cat["label"] == "cat"
    assert good(client, "/generate", model="classes", seed=1, label={"Cat": 0.25, "cat": 0.75}) == [cat]
    answer = post(client, "/generate", model="classes", label="Catt")
    assert "unknown label 'Catt' (did you mean cat?); known are 0 to 2 or cat, dog, owl" in answer.text


def test_of_a_key_that_is_there_twice_the_last_one_counts(client: TestClient) -> None:
    answer = client.post("/generate", content='{"seed": 1, "seed": 2}')
    assert answer.json()["samples"] == good(client, "/generate", seed=2)


def test_an_unknown_field_lists_the_fields(client: TestClient) -> None:
    error = post(client, "/neighbors", seed=1, angel=3).json()["error"]
    assert (error["code"], error["field"]) == ("invalid_request", "angel")
    assert error["message"].startswith(
        "unknown field (did you mean angle or label?); the fields are model, truncation, "
    )


def test_null_counts_as_absent(client: TestClient) -> None:
    with_null = [{"seed": 1, "latent": None, "weight": None, "label": None}, {"seed": 2}]
    assert good(client, "/mix", sources=with_null, space=None) == good(client, "/mix", sources=seeds(1, 2))


def test_a_stream_is_chosen_by_quality(client: TestClient) -> None:
    ask = {"keyframes": seeds(1, 2), "steps": 2}
    for accept, kind in (
        ("application/json, text/event-stream;q=0.1", "application/json"),
        ("text/event-stream, application/json;q=0.9", "text/event-stream"),
        ("image/png, text/event-stream;q=0.5", "image/png"),
    ):
        assert post(client, "/interpolate", accept, **ask).headers["content-type"].startswith(kind)


BAD = [
    ("/interpolate", {}, "keyframes"),
    ("/interpolate", {"keyframes": seeds(1)}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {}]}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"seed": 1, "latent": [0.0] * 8}]}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"latent": [0.0] * 7}]}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"latent": [1e39] * 8}]}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"seed": -1}]}, "keyframes"),
    ("/interpolate", {"keyframes": [{"seed": 1}, {"seed": 2, "label": 0}]}, "keyframes"),
    ("/interpolate", {"keyframes": seeds(*range(65))}, "keyframes"),
    ("/interpolate", {"keyframes": seeds(1, 2), "label": "cat"}, "label"),
    ("/interpolate", {"keyframes": seeds(1, 2), "steps": 1}, "steps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "steps": 201}, "steps"),
    ("/interpolate", {"keyframes": seeds(*range(21)), "steps": 11}, "steps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "steps": 2.5}, "steps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "method": "cubic"}, "method"),
    ("/interpolate", {"keyframes": seeds(1, 2), "space": "w"}, "space"),
    ("/interpolate", {"keyframes": seeds(1, 2), "easing": "bouncy"}, "easing"),
    ("/interpolate", {"keyframes": seeds(1, 2), "layout": "film"}, "layout"),
    ("/interpolate", {"keyframes": seeds(1, 2), "layout": "grid", "format": "gif"}, "layout"),
    ("/interpolate", {"keyframes": seeds(1, 2), "layout": "animation", "format": "png"}, "format"),
    ("/interpolate", {"keyframes": seeds(1, 2), "format": "avi"}, "format"),
    ("/interpolate", {"keyframes": seeds(1, 2), "format": "gif", "fps": 0}, "fps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "format": "gif", "fps": 1000}, "fps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "format": "gif", "scale": 100}, "scale"),
    ("/interpolate", {"keyframes": seeds(1, 2), "fps": 24}, "fps"),
    ("/interpolate", {"keyframes": seeds(1, 2), "format": "gif", "fps": 60}, "fps"),
    ("/generate", {"model": "classes", "seed": 1, "label": {"cat": 1e308, "owl": 1e308}}, "label"),
    ("/generate", {"model": "classes", "seed": 1, "label": {"cat": -1, "owl": 2}}, "label"),
    ("/interpolate", {"model": "points", "keyframes": seeds(1, 2), "format": "gif", "steps": 5, "scale": 16}, "scale"),
    ("/interpolate", {"keyframes": seeds(1, 2), "truncation": 0}, "truncation"),
    ("/interpolate", {"keyframes": seeds(1, 2), "speed": 2}, "speed"),
    ("/interpolate", {"keyframes": seeds(1, 2), "model": "nobody"}, "model"),
    ("/interpolate", {"model": "classes", "keyframes": [{"seed": 1}, {"latent": [0.0] * 8}]}, "keyframes"),
    ("/interpolate", {"model": "classes", "keyframes": seeds(1, 2, label="dodo")}, "keyframes"),
    ("/interpolate", {"model": "classes", "keyframes": seeds(1, 2, label=["cat"])}, "keyframes"),
    ("/interpolate", {"model": "classes", "keyframes": seeds(1, 2, label={"cat": 0.5})}, "keyframes"),
    ("/interpolate", {"model": "classes", "keyframes": seeds(1, 2, label={"cat": 2, "owl": -1})}, "keyframes"),
    ("/mix", {}, "sources"),
    ("/mix", {"sources": []}, "sources"),
    ("/mix", {"sources": seeds(1, 2, weight=0)}, "sources"),
    ("/mix", {"sources": [{"seed": 1, "weight": "much"}]}, "sources"),
    ("/mix", {"sources": [{"seed": 1}, {"latent": [0.0] * 9}]}, "sources"),
    ("/mix", {"sources": [{"seed": 1}, {"seed": 1, "weight": -1}]}, "sources"),
    ("/mix", {"sources": seeds(1, 2), "layers": [0]}, "layers"),
    ("/mix", {"sources": seeds(1, 2), "space": "w"}, "space"),
    ("/mix", {"model": "styled", "sources": seeds(1, 2), "layers": [0, 1]}, "layers"),
    ("/mix", {"model": "styled", "sources": seeds(1, 2), "layers": [0, 1, 2]}, "layers"),
    ("/mix", {"model": "styled", "sources": seeds(1, 2), "layers": [0, 1, -1]}, "layers"),
    ("/mix", {"model": "styled", "sources": seeds(1, 2, weight=2), "layers": [0, 1, 1]}, "layers"),
    ("/mix", {"model": "styled", "space": "w", "sources": [{"seed": 1}, {"seed": 2, "weight": -1}]}, "sources"),
    ("/neighbors", {"seed": 1, "latent": [0.0] * 8}, "latent"),
    ("/neighbors", {"latent": [0.0] * 8}, "latent"),
    ("/neighbors", {"latent": [1.0] * 7}, "latent"),
    ("/neighbors", {"seed": 1, "angle": 181}, "angle"),
    ("/neighbors", {"seed": 1, "angle": -1}, "angle"),
    ("/neighbors", {"seed": 1, "num_samples": 17}, "num_samples"),
    ("/neighbors", {"seed": 1, "num_samples": 2, "neighbor_seed": 2**32 - 1}, "neighbor_seed"),
    ("/neighbors", {"seed": 1, "label": 1}, "label"),
    ("/generate", {"model": "classes", "seed": 1, "label": {"cat": 1.5}}, "label"),
]


@pytest.mark.parametrize(("path", "body", "field"), BAD)
def test_an_invalid_request_names_the_field_and_computes_nothing(
    client: TestClient, path: str, body: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(Engine, "submit", compute)
    status, named = refused(client, path, **body)
    assert (status, named) == (404 if field == "model" else 400, field)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_nan_and_infinity_are_refused(client: TestClient, number: str) -> None:
    for path, body, field in (
        ("/mix", '{"sources":[{"seed":1,"weight":%s},{"seed":2}]}', "sources"),
        ("/neighbors", '{"seed":1,"angle":%s}', "angle"),
        ("/interpolate", '{"keyframes":[{"seed":1},{"latent":[%s,0,0,0,0,0,0,0]}]}', "keyframes"),
    ):
        answer = client.post(path, content=body % number)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("accept", "body", "kind"),
    [
        ("image/gif", {}, "image/gif"),
        ("image/apng", {}, "image/apng"),
        ("video/mp4", {"fps": 10, "scale": 2}, "video/mp4"),
        ("image/webp", {"layout": "animation"}, "image/webp"),
        ("image/png", {}, "image/png"),
        ("*/*", {"format": "gif"}, "application/json"),
        ("application/x-npy", {}, "application/x-npy"),
    ],
)
def test_accept_chooses_among_animations_and_images(
    client: TestClient, accept: str, body: dict[str, Any], kind: str
) -> None:
    answer = post(client, "/interpolate", accept, keyframes=seeds(1, 2), steps=3, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    if kind == "application/json":
        (sample,) = answer.json()["samples"]
        assert sample["seeds"] == [1, None, 2]
        assert base64.b64decode(sample["data"]).startswith(b"GIF89a")
    else:
        request = json.loads(answer.headers["x-latentd-request"])
        again = client.post(request["endpoint"], json=request["request"], headers={"Accept": accept})
        assert again.content == answer.content


def test_points_are_animated_as_a_plot(client: TestClient) -> None:
    answer = post(client, "/interpolate", "image/gif", model="points", keyframes=seeds(1, 2), steps=5)
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.size, picture.n_frames) == ((256, 256), 5)


def test_a_request_too_long_for_a_header_is_named_by_its_hash(client: TestClient) -> None:
    keyframes = [{"latent": [0.123456789 * i] * 8} for i in range(1, 40)]
    answer = post(client, "/interpolate", "image/png", keyframes=keyframes, steps=2)
    assert answer.headers["x-latentd-request"].startswith("sha256:")
    name = json.loads(read_metadata(answer.content) or "")
    assert len(name["request"]["keyframes"]) == 39


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_frames_are_streamed_in_order(client: TestClient) -> None:
    ask = {"keyframes": seeds(1, 2), "steps": 150}
    answer = post(client, "/interpolate", "text/event-stream", **ask)
    assert answer.headers["content-type"].startswith("text/event-stream")
    (first, start), *frames, (last, done) = events(answer.text)
    assert (first, start["total"], start["model"]) == ("start", 150, "grey")
    assert (last, done) == ("done", {"total": 150})
    assert {name for name, _ in frames} == {"frame"}
    assert [frame for _, frame in frames] == good(client, "/interpolate", **ask)


def test_an_animation_is_streamed_as_progress_and_a_file(client: TestClient) -> None:
    ask = {"keyframes": seeds(1, 2), "steps": 40, "format": "apng"}
    found = events(post(client, "/interpolate", "text/event-stream", **ask).text)
    assert [name for name, _ in found] == ["start", "progress", "progress", "progress", "animation", "done"]
    assert [data["done"] for name, data in found if name == "progress"] == [16, 32, 40]
    assert found[-2][1] == good(client, "/interpolate", **ask)[0]


def test_a_failing_stream_ends_with_its_error(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*_: Any) -> bytes:
        raise ValueError("broken")

    monkeypatch.setattr("latentd.service.samples.response_body.encode_animation", breaking)
    answer = post(client, "/interpolate", "text/event-stream", keyframes=seeds(1, 2), steps=4, format="gif")
    name, error = events(answer.text)[-1]
    assert (name, error["error"]["code"]) == ("error", "internal_server_error")


def test_only_two_stage_specs_have_w_in_json() -> None:
    spec = two_stage.spec()
    assert GeneratorSpec.model_validate_json(spec.model_dump_json()) == spec
    assert "w" not in image_spec().model_dump()["input"]
