"""What the engine tells of its work to one who wants to know."""

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
    """Those that are finite and still waited for."""
    capacity: int
    """Samples that its forward passes could have had."""
    waited_seconds: Sequence[float]
    """Of each request that has rows in it, from its arrival to the start of the pass."""
    forward_seconds: float
    copy_seconds: float | None
    """None where device and host are the same."""
    encode_seconds: float
    contexts: Sequence[RequestContext | None]
    """Whose rows are in it, in the order of `waited_seconds`."""
    forward_started: float
    """When its pass did, as time.monotonic has it."""
    encode_started: float


class Observer(Protocol):
    """Called on the engine's threads; to raise is a defect."""

    def batch_done(self, batch: BatchReport) -> None:
        """Before those who wait for it are told."""
        ...


class Observers:
    """Several, told in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def batch_done(self, batch: BatchReport) -> None:
        for each in self._observers:
            each.batch_done(batch)
