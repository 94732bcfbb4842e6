"""Threads that encode the samples of one batch in parallel."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from latentd.models.outputs.base import Samples
from latentd.service.engine.fair_queue import Encode

_MIN_NUMBERS = 2**14
"""The fewest numbers for one thread. As pixels, they take some tenths of a millisecond to encode. That is much longer
than passing them to a thread."""


class EncoderThreads:
    """Divides samples among threads. The encoder must release the GIL, and encode each sample by itself."""

    def __init__(self, count: int) -> None:
        """`count`: the number of threads that encode one batch, including the thread that calls `encode`."""
        self._count = max(1, count)
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="latentd-encoder") if self._count > 1 else None

    def encode(self, encode: Encode, samples: Samples) -> list[Any]:
        """Return `encode(samples)` for samples [N, *shape], N of 1 or more."""
        part = max(-(-len(samples) // self._count), -(-_MIN_NUMBERS // max(1, samples[0].size)))
        if self._pool is None or part >= len(samples):
            return encode(samples)
        others = [self._pool.submit(encode, samples[start : start + part]) for start in range(part, len(samples), part)]
        results = list(encode(samples[:part]))
        for other in others:
            results += other.result()
        return results

    def close(self) -> None:
        """Wait until all threads have ended."""
        if self._pool is not None:
            self._pool.shutdown()
