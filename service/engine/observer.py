"""What the engine tells of its work to one who wants to know."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from latentd.service.engine.executor import StageExecutor

request_context: ContextVar[object] = ContextVar("request_context", default=None)
"""For whom the code that runs here works: rows that it submits are told of as this one's. Whoever sets it knows what it
is; its text is its name in the log."""


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
    request_contexts: Sequence[object]
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
