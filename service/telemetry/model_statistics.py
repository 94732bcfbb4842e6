"""Counts and times of each model since the service started, for the statistics of the Open Inference Protocol."""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from latentd.service.engine import BatchReport


@dataclass(frozen=True)
class Duration:
    """How often something was done, and how many seconds it took in total."""

    count: int = 0
    seconds: float = 0.0

    def plus(self, count: int, seconds: float) -> "Duration":
        """Return the sum."""
        return Duration(self.count + count, self.seconds + seconds)


@dataclass(frozen=True)
class ModelCounts:
    """The counts of one model. In `queued`, `forward` and `encoding`, a request counts once for each of its batches."""

    answered: Duration = field(default_factory=Duration)
    failed: Duration = field(default_factory=Duration)
    queued: Duration = field(default_factory=Duration)
    forward: Duration = field(default_factory=Duration)
    encoding: Duration = field(default_factory=Duration)
    """With copies from the device."""
    samples: int = 0
    batches: int = 0
    last_batch: float = 0.0
    """Seconds since 1970."""


class ModelStatistics:
    """Counts by model. Thread-safe."""

    def __init__(self) -> None:
        self._counts: dict[str, ModelCounts] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> ModelCounts:
        """Return the counts of a model."""
        return self._counts.get(model) or ModelCounts()

    def count_request(self, model: str, is_answered: bool, seconds: float) -> None:
        """Count a finished request."""
        with self._lock:
            before = self.of(model)
            if is_answered:
                self._counts[model] = replace(before, answered=before.answered.plus(1, seconds))
            else:
                self._counts[model] = replace(before, failed=before.failed.plus(1, seconds))

    def batch_done(self, batch: BatchReport) -> None:
        """Count a batch."""
        requests = len(batch.waited_seconds)
        is_last_stage = batch.executor.stage == "synthesis"
        output_seconds = (batch.copy_seconds or 0.0) + batch.encode_seconds
        with self._lock:
            before = self.of(batch.executor.model)
            self._counts[batch.executor.model] = replace(
                before,
                queued=before.queued.plus(requests, sum(batch.waited_seconds)),
                forward=before.forward.plus(requests, requests * batch.forward_seconds),
                encoding=before.encoding.plus(requests, requests * output_seconds),
                samples=before.samples + (batch.encoded if is_last_stage else 0),
                batches=before.batches + 1,
                last_batch=time.time(),
            )

    def retain(self, models: Collection[str]) -> None:
        """Forget the models that are not among `models`."""
        with self._lock:
            self._counts = {model: counts for model, counts in self._counts.items() if model in models}
