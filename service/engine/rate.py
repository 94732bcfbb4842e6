"""How many samples a second the device gives, measured while it works."""

import time
from collections.abc import Callable

_MEMORY = 0.95
"""Share of what is remembered that is kept with each batch: about the last twenty count."""


class RateMeter:
    """Samples a second over the recent batches, idle time left out. Not safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples = 0.0
        self._seconds = 0.0
        self._last = float("-inf")

    def add(self, samples: int, started: float) -> None:
        """A batch that was begun at `started` is done now; time shared with the batch before it counts once."""
        now = self._clock()
        self._samples = self._samples * _MEMORY + samples
        self._seconds = self._seconds * _MEMORY + now - max(started, self._last)
        self._last = now

    def seconds_for(self, samples: int) -> float:
        """How long so many samples take; 0 before anything was measured."""
        return samples * self._seconds / self._samples if self._samples else 0.0
