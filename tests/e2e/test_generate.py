"""`POST /generate` of the shipped models over real HTTP. Every answer is decoded and checked."""

import asyncio
import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import numpy as np
import pytest
from PIL import Image

from latentd.models.checkpoint import Checkpoint
from latentd.models.latents import seed_to_row
from tests.e2e.conftest import ROOT, Server


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def samples(server: Server, **fields: object) -> list[dict]:
    answer = server.generate(**fields)
    assert answer.status == 200, answer.body
    return answer.json["samples"]


def shipped(name: str) -> Checkpoint:
    return Checkpoint.read(ROOT / "models" / "checkpoints" / f"{name}.safetensors")


def test_json_is_the_default(server: Server) -> None:
    answer = server.generate(num_samples=2, seed=7)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json
    assert set(body) == {"model", "version", "format", "samples"}
    assert (body["model"], body["version"]) == ("fashion-dcgan", shipped("fashion-dcgan").version)
    assert body["format"] == "png"
    assert [(sample["index"], sample["seed"]) for sample in body["samples"]] == [(0, 7), (1, 8)]
    pixels = picture(base64.b64decode(body["samples"][0]["data"]))
    assert pixels.shape == (28, 28)
    assert pixels.max() > 100  # not a black image
    assert answer.headers["x-latentd-seeds"] == "7,8"
    assert answer.headers["x-latentd-model"] == "fashion-dcgan"
    assert answer.headers["x-latentd-version"] == body["version"]
    assert len(answer.headers["x-latentd-fingerprint"]) == 12


def test_a_png_grid_holds_the_samples(server: Server) -> None:
    answer = server.generate("image/png", num_samples=16, seed=7)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    grid = picture(answer.body)
    assert grid.shape == (112, 112)
    for index, sample in enumerate(samples(server, num_samples=16, seed=7)):
        row, column = divmod(index, 4)
        tile = grid[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
        assert np.array_equal(tile, picture(base64.b64decode(sample["data"])))


@pytest.mark.parametrize(("format", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_raw_images(server: Server, format: str, kind: str) -> None:
    answer = server.generate(f"image/{format}", seed=3)
    assert answer.headers["content-type"] == f"image/{format}"
    assert Image.open(io.BytesIO(answer.body)).format == kind
    assert picture(answer.body).shape[:2] == (28, 28)
    (sample,) = samples(server, seed=3, format=format)
    assert base64.b64decode(sample["data"]) == answer.body


def test_npy_has_one_row_per_sample(server: Server) -> None:
    answer = server.generate("application/x-npy", num_samples=3, seed=5)
    rows = np.load(io.BytesIO(answer.body), allow_pickle=False)
    assert (rows.shape, rows.dtype) == ((3, 1, 28, 28), np.float32)
    assert np.abs(rows).max() <= 1
    for row, sample in zip(rows, samples(server, num_samples=3, seed=5, format="npy"), strict=True):
        assert np.array_equal(np.load(io.BytesIO(base64.b64decode(sample["data"]))), row)
    png = picture(server.generate("image/png", seed=5).body)
    assert np.abs((rows[0, 0] + 1) * 127.5 - png).max() <= 0.5


def test_points_are_numbers(server: Server) -> None:
    listed = samples(server, model="ring-gan", num_samples=200, seed=0)
    points = np.array([sample["data"] for sample in listed])
    assert points.shape == (200, 2)
    distances = np.linalg.norm(points, axis=1)
    assert np.mean(np.abs(distances - 1) < 0.05) > 0.8
    rows = np.load(io.BytesIO(server.generate("application/x-npy", model="ring-gan", num_samples=200, seed=0).body))
    assert np.array_equal(points.astype(np.float32), rows)


def test_one_request_or_sixty_four_at_once_give_the_same_bytes(server: Server) -> None:
    together = [sample["data"] for sample in samples(server, num_samples=64, seed=0)]
    assert len(set(together)) == 64
    with ThreadPoolExecutor(64) as pool:
        alone = list(pool.map(lambda seed: samples(server, seed=seed)[0]["data"], range(64)))
    assert alone == together


def test_seeds_may_be_in_any_order_and_repeat(server: Server) -> None:
    by_seed = {sample["seed"]: sample["data"] for sample in samples(server, num_samples=20, seed=0)}
    mixed = samples(server, seeds=[19, 4, 4, 0])
    assert [sample["seed"] for sample in mixed] == [19, 4, 4, 0]
    assert [sample["data"] for sample in mixed] == [by_seed[seed] for seed in (19, 4, 4, 0)]


def test_a_drawn_seed_is_named_and_reproduces(server: Server) -> None:
    first, second = samples(server)[0], samples(server)[0]
    assert first["seed"] != second["seed"]
    assert samples(server, seed=first["seed"])[0]["data"] == first["data"]


def test_a_seeds_latent_gives_the_seeds_sample(server: Server) -> None:
    latent = seed_to_row(shipped("fashion-dcgan").card.spec, 12).input.tolist()
    (sample,) = samples(server, latents=[latent], format="npy")  # a PNG would differ in its embedded metadata
    assert sample["seed"] is None
    assert sample["data"] == samples(server, seed=12, format="npy")[0]["data"]
    assert "x-latentd-seeds" not in server.generate(latents=[latent]).headers


def test_truncation_moves_toward_the_mean_latent(server: Server) -> None:
    spec = shipped("fashion-dcgan").card.spec
    half = (seed_to_row(spec, 12).input * np.float32(0.5)).tolist()
    (sample,) = samples(server, seed=12, truncation=0.5, format="npy")
    assert sample["data"] == samples(server, latents=[half], format="npy")[0]["data"]
    assert sample["data"] != samples(server, seed=12)[0]["data"]
    assert samples(server, seed=12, truncation=1)[0]["data"] == samples(server, seed=12)[0]["data"]


def test_labels_by_name_index_list_and_seed(server: Server) -> None:
    model = "fashion-dcgan-conditional"
    condition = shipped(model).card.spec.condition
    dress = samples(server, model=model, seed=1, label="Dress")[0]
    assert dress["label"] == "Dress"
    assert samples(server, model=model, seed=1, label=3)[0] == dress
    assert samples(server, model=model, seed=1, label="Bag")[0]["data"] != dress["data"]
    listed = samples(server, model=model, seed=0, num_samples=2, label=["Bag", 3])
    assert [sample["label"] for sample in listed] == ["Bag", "Dress"]
    assert listed[1]["data"] == dress["data"]
    for sample in samples(server, model=model, seed=100, num_samples=5):
        row = seed_to_row(shipped(model).card.spec, sample["seed"]).condition
        assert sample["label"] == condition.class_names[int(row.argmax())]


def test_a_grid_in_json_is_one_sample(server: Server) -> None:
    (grid,) = samples(server, model="fashion-dcgan-conditional", num_samples=5, seed=3, layout="grid", label="Bag")
    assert grid["seeds"] == [3, 4, 5, 6, 7]
    assert grid["labels"] == ["Bag"] * 5
    assert picture(base64.b64decode(grid["data"])).shape == (56, 84)


def test_a_request_can_name_a_version(server: Server) -> None:
    version = shipped("fashion-dcgan").version
    assert server.generate(model=f"fashion-dcgan@{version}", seed=1).json["version"] == version
    refused = server.generate(model="fashion-dcgan@0123456789ab", seed=1)
    assert refused.error == (404, "version_not_served", "model")


def test_a_request_of_the_most_samples(server: Server) -> None:
    assert len(samples(server, num_samples=256, seed=2**32 - 256)) == 256


def test_null_counts_as_absent(server: Server) -> None:
    absent = ("model", "num_samples", "seeds", "latents", "label", "truncation", "format", "layout")
    assert samples(server, seed=4, **dict.fromkeys(absent)) == samples(server, seed=4)


def test_bentomls_own_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.generate(num_samples=2, seed=7)
    assert answer == server.generate(num_samples=2, seed=7).json


def test_bentomls_asynchronous_client(server: Server) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            assert await client.is_ready()
            return list(await asyncio.gather(*(client.generate(seed=seed) for seed in range(16))))

    answers = asyncio.run(ask())
    assert [answer["samples"][0]["data"] for answer in answers] == [
        sample["data"] for sample in samples(server, seed=0, num_samples=16)
    ]


def test_pages_and_probes_of_every_bentoml_service(server: Server) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/"):
        assert server.call(path).status == 200
    schema = server.call("/docs.json").json
    fields = json.dumps(schema["components"]["schemas"])
    assert "/generate" in schema["paths"]
    assert "truncation" in fields


def test_models_are_listed_and_shown(server: Server) -> None:
    listed = server.call("/models").json
    assert listed["models"][2] == server.call("/models/ring-gan").json
    assert listed["default"] == "fashion-dcgan"
    assert [model["name"] for model in listed["models"]] == ["fashion-dcgan", "fashion-dcgan-conditional", "ring-gan"]
    assert listed["failures"] == []
    shown = server.call("/models/ring-gan").json
    card = shipped("ring-gan").card
    assert shown["card"] == card.model_dump(mode="json")
    assert shown["limits"] == {"max_samples": 256, "max_frames": 1024}
    assert shown["determinism"]["fingerprint"]["weights"] == shown["version"] == shipped("ring-gan").version
    assert server.call("/models/nope").error == (404, "unknown_model", "model")


def test_the_shipped_directions_change_what_they_name(server: Server) -> None:
    listed = server.call("/models/fashion-dcgan/directions").json
    names = {each["name"] for each in listed["directions"] if each["method"] == "linear fit"}
    assert len(names) >= 8
    assert all(each["preview"] for each in listed["directions"])
    seeds = list(range(8))
    light = {
        amount: server.generate(seeds=seeds, directions={"brightness": amount}, format="npy").json["samples"]
        for amount in (-3, 3)
    }
    dark, bright = (np.mean([_array(sample) for sample in light[amount]]) for amount in (-3, 3))
    assert bright > dark
    alone = server.generate(seed=5, directions={"brightness": 3}, format="npy").json["samples"][0]
    assert alone["data"] == light[3][5]["data"]


def _array(sample: dict[str, Any]) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(sample["data"]))))
