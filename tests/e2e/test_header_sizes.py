"""Headers of answers at the largest limits stay small enough for every proxy; clients read them through nginx."""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import torch
import tritonclient.http as triton

from latentd.models.checkpoint import write_checkpoint
from latentd.models.families import build_generator
from latentd.models.seeds import MAX_SEED
from tests.conftest import card_of, image_spec, points_spec
from tests.e2e.conftest import Answer, Server, serving
from tests.e2e.nginx import balancing, needs_nginx

pytestmark = needs_nginx

LIMIT_BYTES = 2048
MAX_SAMPLES = 1024
IMAGES, POINTS = "i" * 128, "p" * 128
LONGEST_ID = "r" * 128
COUNTS = (1, 23, 24, 26, 64, 160, 175, 256, 1024)
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("headers")
    for name, spec in {IMAGES: image_spec(conditional=True), POINTS: points_spec()}.items():
        torch.manual_seed(1)
        write_checkpoint(folder / "models" / f"{name}.safetensors", card_of(spec), build_generator(spec).state_dict())
    settings = {"LATENTD_MODELS": str(folder / "models"), "LATENTD_MAX_SAMPLES": str(MAX_SAMPLES)}
    with serving(folder / "home", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(service: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = int(service.url.rsplit(":", 1)[1])
    with balancing(tmp_path_factory.mktemp("balancer") / "nginx", [port] * 3) as balancer:
        yield balancer


def some_seeds(count: int) -> list[int]:
    """Random seeds of ten digits."""
    draw = random.Random(count)  # noqa: S311  # no cryptography
    return [draw.randrange(10**9, MAX_SEED) for _ in range(count)]


def header_bytes(answer: Answer) -> int:
    return sum(len(f"{name}: {value}\r\n") for name, value in answer.headers.items()) + len("HTTP/1.1 200 OK\r\n\r\n")


def ask(server: Server, path: str, body: Any, accept: str = "*/*") -> Answer:
    answer = server.call(path, json.dumps(body).encode(), accept=accept, x_request_id=LONGEST_ID)
    assert answer.status == 200, answer.body
    assert header_bytes(answer) < LIMIT_BYTES, answer.headers
    return answer


def triton_body(seeds: list[int], binary: bool) -> dict[str, Any]:
    inputs = [{"name": "seeds", "datatype": "UINT32", "shape": [len(seeds)], "data": seeds}]
    return {"inputs": inputs, "parameters": {"binary_data_output": binary}}


Case = Callable[[list[int]], tuple[str, Any, str]]
"""Seeds → path, body and Accept header."""


def generate(accept: str, model: str = IMAGES, **fields: Any) -> Case:
    return lambda seeds: ("/generate", {"model": model, "seeds": seeds} | fields, accept)


def interpolate(accept: str, **fields: Any) -> Case:
    def keyframes(seeds: list[int]) -> tuple[str, Any, str]:
        points = [{"seed": seed} for seed in (seeds * 2)[: max(2, min(64, len(seeds)))]]
        return "/interpolate", {"model": IMAGES, "keyframes": points, "steps": 2} | fields, accept

    return keyframes


CASES: dict[str, Case] = {
    **{f"generate-{kind}": generate(kind) for kind in ("image/png", "image/webp", "image/jpeg", NPY)},
    "generate-json": generate("application/json"),
    "generate-grid-json": generate("application/json", layout="grid"),
    "generate-points": generate("application/json", POINTS),
    "generate-points-npy": generate(NPY, POINTS),
    "generate-labels": generate(NPY, label={"cat": 0.25, "owl": 0.75}, truncation=0.7),
    **{
        f"interpolate-{kind}": interpolate(kind) for kind in ("image/png", NPY, "text/event-stream", "application/json")
    },
    **{
        f"interpolate-{kind}": interpolate(kind, layout="animation")
        for kind in ("image/gif", "image/apng", "image/webp", "video/mp4")
    },
    "mix": lambda seeds: ("/mix", {"model": IMAGES, "sources": [{"seed": seed} for seed in seeds[:64]]}, NPY),
    "neighbors": lambda seeds: ("/neighbors", {"model": IMAGES, "seed": seeds[0], "num_samples": len(seeds)}, NPY),
    "openai": lambda seeds: (
        "/v1/images/generations",
        {"model": IMAGES, "prompt": "cat", "n": min(len(seeds), 256), "seed": seeds[0]},
        "*/*",
    ),
    "triton": lambda seeds: (f"/v2/models/{POINTS}/infer", triton_body(seeds, binary=False), "*/*"),
    "triton-binary": lambda seeds: (f"/v2/models/{IMAGES}/infer", triton_body(seeds, binary=True), "*/*"),
}


@pytest.mark.parametrize("case", CASES)
def test_headers_are_small_for_any_number_of_seeds(proxied: Server, case: str) -> None:
    for count in COUNTS:
        ask(proxied, *CASES[case](some_seeds(count)))


def test_valid_requests_take_no_replica_out(proxied: Server) -> None:
    for count in range(150, 190):
        ask(proxied, "/generate", {"model": POINTS, "seeds": some_seeds(count)}, NPY)
    tries = (proxied.log.parent / "tries").read_text().splitlines()
    assert not [line for line in tries if "," in line]  # nothing was sent to a second replica
    assert "too big header" not in proxied.log.read_text()


def test_the_header_of_seeds_is_a_list_then_runs_then_a_hash(service: Server) -> None:
    def header(**fields: Any) -> str:
        return ask(service, "/generate", {"model": POINTS} | fields, NPY).headers["x-latentd-seeds"]

    assert header(seeds=[7, 8, 5]) == "7,8,5"
    assert header(seed=7, num_samples=3) == "7,8,9"
    assert header(seed=7, num_samples=1000) == "7-1006"
    assert header(seeds=[5, *range(7, 900), 7, 7, 3]) == "5,7-899,7,7,3"
    many = some_seeds(200)
    assert header(seeds=many) == "sha256:" + hashlib.sha256(",".join(map(str, many)).encode()).hexdigest()


def test_a_long_request_is_repeated_by_what_the_server_chose(service: Server) -> None:
    labels = ["cat", "dog", "owl"] * 100
    drawn = ask(service, "/generate", {"model": IMAGES, "num_samples": 300, "label": labels}, NPY)
    digest, _, seed = drawn.headers["x-latentd-request"].partition(";seed=")
    assert digest.startswith("sha256:")
    again = ask(service, "/generate", {"model": IMAGES, "num_samples": 300, "label": labels, "seed": int(seed)}, NPY)
    assert again.body == drawn.body
    assert again.headers["x-latentd-request"] == drawn.headers["x-latentd-request"]


@pytest.mark.parametrize("count", COUNTS)
def test_clients_read_the_answers_through_nginx(proxied: Server, count: int) -> None:
    seeds = some_seeds(count)
    expected = np.array(
        [sample["data"] for sample in ask(proxied, "/generate", {"model": POINTS, "seeds": seeds}).json["samples"]],
        np.float32,
    )

    tensor = triton.InferInput("seeds", [count], "UINT32").set_data_from_numpy(np.array(seeds, np.uint32))
    by_triton = triton.InferenceServerClient(proxied.url.removeprefix("http://")).infer(POINTS, [tensor])
    assert np.array_equal(by_triton.as_numpy("samples"), expected)

    async def by_aiohttp() -> int:
        # the limit of aiohttp's client for one header line is 8190 bytes; this client accepts less
        async with (
            aiohttp.ClientSession(max_line_size=1024, max_field_size=1024) as session,
            session.post(
                f"{proxied.url}/generate", json={"model": POINTS, "seeds": seeds}, headers={"Accept": NPY}
            ) as got,
        ):
            await got.read()
            return got.status

    assert asyncio.run(by_aiohttp()) == 200


def test_openais_client_reads_the_answers_through_nginx(proxied: Server) -> None:
    with openai.OpenAI(base_url=f"{proxied.url}/v1", api_key="-", max_retries=0) as client:
        answer = client.images.generate(model=IMAGES, prompt="cat", n=200, extra_body={"seed": 3_000_000_000})
        assert answer.data is not None
        assert [image.seed for image in answer.data] == list(range(3_000_000_000, 3_000_000_200))  # type: ignore[attr-defined]  # ours
