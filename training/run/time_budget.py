"""A fraction of a run's time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeBudget:
    """Keeps repeated work within a fraction of the time: after work of s seconds it allows none for s / fraction.

    The first time does not count, because it takes longer than the others: caches are filled, kernels are loaded.
    """

    def __init__(self, fraction: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`fraction`: between 0 and 1. `clock`: returns seconds."""
        self._fraction = fraction
        self._clock = clock
        self._closed_until = 0.0
        self._is_first = True

    @property
    def is_open(self) -> bool:
        """Whether there is time for the work now."""
        return self._clock() >= self._closed_until

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Measure the work in the block."""
        started = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            if not self._is_first:
                self._closed_until = ended + (ended - started) / self._fraction
            self._is_first = False
