"""A loop without HTTP that draws latents, runs forward passes and encodes.

`python -m benchmarks.rivals.serving_loop THREADS BATCH SECONDS`.
"""

import json
import random
import sys
import time

from benchmarks.rivals.work import Work, limit_threads

_WARM_UP_SECONDS = 1.0


def main() -> None:
    """Print images per second as JSON."""
    threads, batch, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    limit_threads(threads)
    work, random_seeds = Work(), random.Random()  # noqa: S311  # seeds of samples
    _run(work, random_seeds, batch, _WARM_UP_SECONDS)
    print(json.dumps({"images_per_second": _run(work, random_seeds, batch, seconds)}))  # noqa: T201  # its answer


def _run(work: Work, random_seeds: random.Random, batch: int, seconds: float) -> float:
    images, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        first = random_seeds.randrange(2**31)
        seeds = range(first, first + batch)
        json.dumps([{"seed": seed, "data": data} for seed, data in zip(seeds, work.draw(list(seeds)), strict=True)])
        images += batch
    return images / elapsed


if __name__ == "__main__":
    main()
