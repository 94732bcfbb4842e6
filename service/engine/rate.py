"""The device's throughput in samples per second, measured while it works."""

import time
from collections.abc import Callable

_DECAY = 0.95
"""The past is multiplied by this at each batch. So about the last twenty batches count."""


class RateMeter:
    """Samples per second over recent batches, without idle time. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples = 0.0
        self._seconds = 0.0
        self._last = float("-inf")

    def add(self, samples: int, started: float) -> None:
        """Record a batch that began at `started` and ends now. Time that overlaps the batch before counts once."""
        now = self._clock()
        self._samples = self._samples * _DECAY + samples
        self._seconds = self._seconds * _DECAY + now - max(started, self._last)
        self._last = now

    def seconds_for(self, samples: int) -> float:
        """Return the seconds that `samples` take; 0 before the first batch."""
        return samples * self._seconds / self._samples if self._samples else 0.0
