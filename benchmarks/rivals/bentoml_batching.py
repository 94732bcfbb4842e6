"""BentoML's own adaptive batching: a front service and a batchable one, as its documentation composes them."""

import os
from typing import Any

import bentoml

from benchmarks.rivals.work import Work, limit_threads

_MAX_LATENCY_MS = 60_000
"""BentoML refuses requests that would wait longer. This is so long that none does."""


@bentoml.service(workers=1, traffic={"timeout": 120})
class Generator:
    """The batchable service. An element of a batch is a seed, so batches count samples."""

    def __init__(self) -> None:
        limit_threads(int(os.environ["BENCH_THREADS"]))
        self._work = Work()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=_MAX_LATENCY_MS)  # type: ignore[untyped-decorator]  # in bentoml
    def draw(self, seeds: list[int]) -> list[str]:
        """Return one base64 PNG per seed."""
        return self._work.draw([int(seed) for seed in seeds])


@bentoml.service(workers=1, traffic={"timeout": 120})
class Front:
    """The HTTP service. It gets the samples of a request from the batchable service."""

    generator = bentoml.depends(Generator)

    @bentoml.api(route="/generate")  # type: ignore[untyped-decorator]  # in bentoml
    async def generate(self, num_samples: int, seed: int) -> dict[str, Any]:
        """Return the samples of consecutive seeds."""
        seeds = list(range(seed, seed + num_samples))
        data = await self.generator.to_async.draw(seeds)
        return {"samples": [{"seed": each, "data": file} for each, file in zip(seeds, data, strict=True)]}
