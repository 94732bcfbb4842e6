"""Reports of the engine's work to observers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from latentd.service.context import RequestContext
from latentd.service.engine.executor import StageExecutor


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that was computed and encoded."""

    executor: StageExecutor
    samples: int
    encoded: int
    """Samples that are finite and whose submission was not canceled."""
    capacity: int
    """Rows of the forward passes, with padding."""
    waited_seconds: Sequence[float]
    """For each submission with rows in the batch: the seconds from its arrival to the start of the pass."""
    forward_seconds: float
    copy_seconds: float | None
    """None on a CPU."""
    encode_seconds: float
    contexts: Sequence[RequestContext | None]
    """The request of each submission, in the order of `waited_seconds`."""
    forward_started: float
    """time.monotonic() at the start of the forward pass."""
    encode_started: float
    """time.monotonic() at the start of the encoding."""


class Observer(Protocol):
    """Receives reports on the engine's threads. An exception here fails the batch."""

    def batch_done(self, batch: BatchReport) -> None:
        """Record a batch. Called before its results are delivered."""
        ...


class Observers:
    """Passes each report to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def batch_done(self, batch: BatchReport) -> None:
        for each in self._observers:
            each.batch_done(batch)
