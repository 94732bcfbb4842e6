"""Counters and histograms that cost little, kept in this process.

prometheus_client's own write every number to a file that BentoML shares between workers, under one lock. The service
has one worker, so plain numbers do; prometheus_client puts them into its text when it is asked for.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

_Number = TypeVar("_Number")


class _Series(Generic[_Number]):
    """Numbers by the values of their labels. Safe for threads."""

    def __init__(self, name: str, help: str, labels: tuple[str, ...], new: Callable[[], _Number]) -> None:
        self._name = name
        self._help = help
        self._labels = labels
        self._new = new
        self._numbers: dict[tuple[str, ...], _Number] = {}
        self._lock = threading.Lock()
        if not labels:
            self._numbers[()] = new()  # what never happened is 0

    def keep(self, label: str, values: Collection[str]) -> None:
        """Forget the series whose `label` has none of `values`."""
        place = self._labels.index(label)
        with self._lock:
            self._numbers = {key: number for key, number in self._numbers.items() if key[place] in values}


class Counter(_Series[float]):
    """What only grows. `name` is without the `_total` that it ends in."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        super().__init__(name, help, labels, float)

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """`labels`: a value for each of the counter's labels."""
        with self._lock:
            self._numbers[labels] = self._numbers.get(labels, 0.0) + amount

    def collect(self) -> list[Metric]:
        """For prometheus_client."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        with self._lock:
            for labels, number in self._numbers.items():
                family.add_metric(labels, number)
        return [family]


@dataclass
class _Spread:
    """How many observations fell into each bucket, the last of which has no end."""

    counts: list[int]
    sum: float = 0.0


class Histogram(_Series[_Spread]):
    """How values are spread over buckets, of which `bounds` are the upper ends, included."""

    def __init__(self, name: str, help: str, bounds: tuple[float, ...], *labels: str) -> None:
        super().__init__(name, help, labels, lambda: _Spread([0] * (len(bounds) + 1)))
        self._bounds = bounds

    def observe(self, *values: float, labels: tuple[str, ...] = ()) -> None:
        """`labels`: a value for each of the histogram's labels."""
        with self._lock:
            if (spread := self._numbers.get(labels)) is None:
                spread = self._numbers[labels] = self._new()
            for value in values:
                spread.counts[bisect_left(self._bounds, value)] += 1
                spread.sum += value

    def collect(self) -> list[Metric]:
        """For prometheus_client."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        ends = [*map(str, map(float, self._bounds)), "+Inf"]
        with self._lock:
            for labels, spread in self._numbers.items():
                buckets = list(zip(ends, accumulate(spread.counts), strict=True))
                family.add_metric(labels, buckets, sum_value=spread.sum)
        return [family]
