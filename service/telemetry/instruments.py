"""Cheap counters and histograms, kept in this process.

Those of prometheus_client write every number to a file that BentoML's workers share, under one lock. The service has
one worker, so plain numbers suffice. prometheus_client formats them for /metrics.
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
    """Numbers by label values. Thread-safe."""

    def __init__(self, name: str, help: str, labels: tuple[str, ...], new: Callable[[], _Number]) -> None:
        self._name = name
        self._help = help
        self._labels = labels
        self._new = new
        self._numbers: dict[tuple[str, ...], _Number] = {}
        self._lock = threading.Lock()
        if not labels:
            self._numbers[()] = new()  # so that it is there before the first event

    def retain(self, label: str, values: Collection[str]) -> None:
        """Remove the series whose `label` is not one of `values`."""
        position = self._labels.index(label)
        with self._lock:
            self._numbers = {key: number for key, number in self._numbers.items() if key[position] in values}


class Counter(_Series[float]):
    """A number that only grows. `name` is the metric's name without `_total`."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        super().__init__(name, help, labels, float)

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add `amount` to the series with these label values, one for each of the counter's labels."""
        with self._lock:
            self._numbers[labels] = self._numbers.get(labels, 0.0) + amount

    def collect(self) -> list[Metric]:
        """Return the metric for prometheus_client."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        with self._lock:
            for labels, number in self._numbers.items():
                family.add_metric(labels, number)
        return [family]


@dataclass
class _Distribution:
    """The number of observations in each bucket, and their sum. The last bucket has no upper bound."""

    counts: list[int]
    sum: float = 0.0


class Histogram(_Series[_Distribution]):
    """Observations in buckets with inclusive upper `bounds`."""

    def __init__(self, name: str, help: str, bounds: tuple[float, ...], *labels: str) -> None:
        super().__init__(name, help, labels, lambda: _Distribution([0] * (len(bounds) + 1)))
        self._bounds = bounds

    def observe(self, *values: float, labels: tuple[str, ...] = ()) -> None:
        """Add observations to the series with these label values, one for each of the histogram's labels."""
        with self._lock:
            if (distribution := self._numbers.get(labels)) is None:
                distribution = self._numbers[labels] = self._new()
            for value in values:
                distribution.counts[bisect_left(self._bounds, value)] += 1
                distribution.sum += value

    def collect(self) -> list[Metric]:
        """Return the metric for prometheus_client."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        with self._lock:
            for labels, distribution in self._numbers.items():
                buckets = list(zip(bounds, accumulate(distribution.counts), strict=True))
                family.add_metric(labels, buckets, sum_value=distribution.sum)
        return [family]
