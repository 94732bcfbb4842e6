"""BentoML's own adaptive batching: a front service and a batchable one, as its documentation composes them."""

import os
from typing import Any

import bentoml

from benchmarks.rivals.work import Work, limit_threads

_LONGEST_WAIT_MS = 60_000
"""Beyond it BentoML sheds load; so long that it need not."""


@bentoml.service(workers=1, traffic={"timeout": 120})
class Generator:
    """Batches count samples: an element a seed."""

    def __init__(self) -> None:
        limit_threads(int(os.environ["BENCH_THREADS"]))
        self._work = Work()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=_LONGEST_WAIT_MS)  # type: ignore[untyped-decorator]  # in bentoml
    def draw(self, seeds: list[int]) -> list[str]:
        """A base64 PNG a seed."""
        return self._work.draw([int(seed) for seed in seeds])


@bentoml.service(workers=1, traffic={"timeout": 120})
class Front:
    """Takes requests and asks the batchable service for their samples."""

    generator = bentoml.depends(Generator)

    @bentoml.api(route="/generate")  # type: ignore[untyped-decorator]  # in bentoml
    async def generate(self, num_samples: int, seed: int) -> dict[str, Any]:
        """The samples of consecutive seeds."""
        seeds = list(range(seed, seed + num_samples))
        data = await self.generator.to_async.draw(seeds)
        return {"samples": [{"seed": each, "data": file} for each, file in zip(seeds, data, strict=True)]}
