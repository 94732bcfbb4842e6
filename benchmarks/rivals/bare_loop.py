"""One process without HTTP: draw, forward, encode, and again.

`python -m benchmarks.rivals.bare_loop THREADS BATCH SECONDS` prints one JSON line.
"""

import json
import random
import sys
import time

from benchmarks.rivals.work import Work, limit_threads


def main() -> None:
    """Print images a second as JSON."""
    threads, batch, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    limit_threads(threads)
    work, draw = Work(), random.Random()  # noqa: S311  # seeds of samples
    images, started = 0, 0.0
    stop = time.perf_counter() + 1 + seconds
    while (now := time.perf_counter()) < stop:
        if not started and now > stop - seconds:
            images, started = 0, now
        first = draw.randrange(2**31)
        seeds = list(range(first, first + batch))
        json.dumps([{"seed": seed, "data": data} for seed, data in zip(seeds, work.draw(seeds), strict=True)])
        images += batch
    print(json.dumps({"images_per_second": images / (time.perf_counter() - started)}))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
