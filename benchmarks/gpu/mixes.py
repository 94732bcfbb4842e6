"""Samples in random mixes of models, formats, endpoints and sizes, compared with the expected samples of their seeds.

The expected samples are computed in this process, in the passes that define a sample. Then one server answers random
requests of many clients, and a new server answers some of them again.
"""

import base64
import io
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import torch

from benchmarks import processes
from benchmarks.processes import Server
from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SHIPPED, is_sidecar
from latentd.models.hardware import configure_device, use_serving_threads
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.outputs.image import to_pixels
from latentd.models.sampling import generate_rows

_CLIENTS = 32
_SIZES = (1, 1, 2, 3, 5, 16, 17, 64, 100)
_SEEDS = 500
"""The number of different seeds of each model."""
_REPEATED = 0.05
"""The fraction of the requests that the second server answers again."""


@dataclass(frozen=True)
class Asked:
    """A request, and the seeds whose samples its answer must have, by their place in the answer."""

    path: str
    body: dict[str, Any]
    seeds: dict[int, int]


def compare(device: torch.device, count: int) -> dict[str, Any]:
    """Return how many of `count` samples were compared, and how many differ."""
    configure_device(device)
    use_serving_threads(device)
    files = [file for file in sorted(SHIPPED.glob("*.safetensors")) if not is_sidecar(file)]
    seeds = min(_SEEDS, max(_SIZES[-1], count // 10))
    expected = {file.stem: _samples(Checkpoint.read(file), device, seeds) for file in files}
    requests = _requests(list(expected), count, seeds)
    environment = {"LATENTD_DEVICE": device.type}
    with processes.latentd(**environment) as server:
        first = _ask(server, requests, lambda asked, answer: _count(asked, answer, expected))
        modes = {name: server.get(f"/models/{name}")["determinism"] for name in expected}
    again = requests[: max(1, round(len(requests) * _REPEATED))]
    with processes.latentd(**environment) as server:
        repeated = _ask(server, again, lambda asked, answer: Counter(same=int(answer == first[1][id(asked)])))
    return {
        "requests": len(requests),
        "samples": first[0]["samples"],
        "differing": first[0]["differing"],
        "failed": first[0]["failed"] + repeated[0]["failed"],
        "answers repeated after a restart": len(again),
        "differing after a restart": len(again) - repeated[0]["same"],
        "determinism": modes,
    }


def _samples(checkpoint: Checkpoint, device: torch.device, seeds: int) -> Samples:
    generator = checkpoint.build(device)
    return generate_rows(generator, seeds_to_rows(generator.spec, range(seeds)))


def _requests(models: list[str], count: int, seeds: int) -> list[Asked]:
    draw = random.Random(0)  # noqa: S311  # a test's order
    requests, samples = [], 0
    while samples < count:
        requests.append(_request(draw, draw.choice(models), seeds))
        samples += len(requests[-1].seeds)
    return requests


def _request(draw: random.Random, model: str, seeds: int) -> Asked:
    kind = draw.choice(("generate", "generate", "interpolate", "mix"))
    encoding = {} if draw.random() < 0.5 else {"format": "npy"}
    if kind == "interpolate":
        ends = draw.sample(range(seeds), 2)
        steps = draw.randint(2, 20)
        body = {"keyframes": [{"seed": seed} for seed in ends], "steps": steps}
        return Asked("/interpolate", {"model": model, **body, **encoding}, {0: ends[0], steps - 1: ends[1]})
    if kind == "mix":
        seed = draw.randrange(seeds)
        return Asked("/mix", {"model": model, "sources": [{"seed": seed, "weight": 2}], **encoding}, {0: seed})
    chosen = [draw.randrange(seeds) for _ in range(draw.choice(_SIZES))]
    return Asked("/generate", {"model": model, "seeds": chosen, **encoding}, dict(enumerate(chosen)))


def _ask(
    server: Server, requests: list[Asked], judge: Callable[[Asked, dict[str, Any]], Counter[str]]
) -> tuple[Counter[str], dict[int, Any]]:
    """Send the requests from many clients. Return the sum of what `judge` counts, and all answers."""
    answers: dict[int, Any] = {}

    def ask(asked: Asked) -> Counter[str]:
        try:
            answers[id(asked)] = server.post(asked.path, asked.body)
        except OSError:
            return Counter(failed=1)
        return judge(asked, answers[id(asked)])

    with ThreadPoolExecutor(_CLIENTS) as pool:
        found: Counter[str] = sum(pool.map(ask, requests), Counter())
    return found, answers


def _count(asked: Asked, answer: dict[str, Any], expected: dict[str, Samples]) -> Counter[str]:
    samples = expected[asked.body["model"]]
    right = sum(
        _is_same(answer["samples"][place]["data"], answer["format"], samples[seed])
        for place, seed in asked.seeds.items()
    )
    return Counter(samples=len(asked.seeds), differing=len(asked.seeds) - right)


def _is_same(data: Any, encoding: str, sample: Samples) -> bool:
    """Return whether an encoded sample is this one: to the bit, or to the pixel if the format has pixels."""
    if encoding == "json":
        return bool(np.array_equal(np.array(data, dtype=np.float32), sample))
    file = base64.b64decode(data)
    if encoding == "npy":
        return bool(np.array_equal(np.load(io.BytesIO(file), allow_pickle=False), sample))
    pixels = to_pixels(sample[None])[0]  # [H, W, C]
    return bool(np.array_equal(imagecodecs.png_decode(file).reshape(pixels.shape), pixels))
