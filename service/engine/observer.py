"""What the engine tells of its work to one who wants to know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.engine.replica import Replica


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that was computed and encoded."""

    replica: Replica
    samples: int
    encoded: int
    """Those that are finite and still waited for."""
    room: int
    """Samples that its forward passes could have had."""
    waited_seconds: Sequence[float]
    """Of each request that has rows in it, from its arrival to the start of the pass."""
    forward_seconds: float
    copy_seconds: float | None
    """None where device and host are the same."""
    encode_seconds: float


class Observer(Protocol):
    """Called on the engine's threads; to raise is a defect."""

    def batch_done(self, batch: BatchReport) -> None:
        """Before those who wait for it are told."""
        ...
