"""What a run would do and how long it would take, before it reads data."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from pydantic import JsonValue

from latentd.training.build import BuildContext, build
from latentd.training.data.source import Batch, DataSource
from latentd.training.loop import train
from latentd.training.recipes.base import Recipe
from latentd.training.run.memory import OutOfMemory, explain_out_of_memory
from latentd.training.run.progress import in_words
from latentd.training.world import World

logger = logging.getLogger(__name__)

_MIN_STEPS, _MIN_SECONDS = 3, 1.0
"""What is timed at least, after a first step that is not timed."""


def plan(recipe: Recipe, device: torch.device, seed: int, path: Path) -> dict[str, JsonValue]:
    """Return the resolved settings, the sizes of the networks, and about how long the steps would take.

    Raises OutOfMemory if a step does not fit into the device's memory.
    """
    spec = recipe.spec()
    with torch.device("meta"):
        networks = {name: make(spec) for name, make in recipe.builders.items()}
    return {
        "checkpoint": str(path),
        "device": str(device),
        "seed": seed,
        "parameters": {
            name: sum(math.prod(parameter.shape) for parameter in network.parameters())
            for name, network in networks.items()
        },
        "time": _estimate(recipe, device, seed),
        "recipe": recipe.model_dump(mode="json"),
    }


def _estimate(recipe: Recipe, device: torch.device, seed: int) -> JsonValue:
    """Return how long all steps would take, from a few that are done on noise instead of data; None if unknown."""
    if recipe.steps <= _MIN_STEPS:
        return None
    world = World()
    try:
        with explain_out_of_memory(recipe, world):
            steps, seconds = _time_steps(recipe, device, seed, world)
    except OutOfMemory:
        raise
    except Exception as problem:  # noqa: BLE001  # an algorithm may need real data, and fail without it in any way
        logger.warning("the time is not estimated, because no step can be done on noise: %s", problem)
        return None
    total = recipe.steps * seconds / steps
    return {
        "seconds": round(total, 1),
        "words": f"about {in_words(total)}",
        "measured": f"{steps} steps on noise, on one device; without reading data and without evaluation",
    }


def _time_steps(recipe: Recipe, device: torch.device, seed: int, world: World) -> tuple[int, float]:
    """Return a number of steps and the seconds that they took."""
    without_files = recipe.model_copy(update={"begin_from": {}})
    algorithm = build(without_files, _NoiseContext(_NoData(), recipe.spec(), seed, device, world))
    times: list[float] = []

    def has_enough() -> bool:
        return len(times) > _MIN_STEPS and times[-1] - times[0] >= _MIN_SECONDS

    train(algorithm, recipe.steps, lambda *_: times.append(time.monotonic()), has_enough)
    return len(times) - 1, times[-1] - times[0]


class _NoData(DataSource):
    """A source that is not read."""

    def draw(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


class _NoiseContext(BuildContext):
    """Batches are noise in [-1, 1), with conditions that the kind of condition draws."""

    def batches(self, recipe: Recipe, domain: str | None = None) -> Iterator[Batch]:
        stream = np.random.RandomState(self.seed)
        shape = (recipe.batch_size, *self.spec.output.shape)
        while True:
            samples = torch.rand(shape, device=self.device) * 2 - 1
            rows = None
            if self.spec.condition.size:
                drawn = [self.spec.condition.draw(stream) for _ in range(recipe.batch_size)]
                rows = torch.from_numpy(np.stack(drawn)).to(self.device)
            yield Batch(samples, rows)
