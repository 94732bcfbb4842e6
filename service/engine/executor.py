"""A generator on its device, and the sizes of forward pass that it may run in."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np

from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput
from latentd.service.engine.calibration import Calibration

logger = logging.getLogger("latentd.engine")


Stage = Literal["mapping", "synthesis"]
"""What is computed: w, or samples."""


class NotFiniteError(ArithmeticError):
    """A sample holds an infinity or no number at all."""


class OutOfMemoryError(Exception):
    """The device has not the memory for a forward pass of this size."""


class Computed(NamedTuple):
    """What forward passes gave, and what they took."""

    samples: Samples
    """[N, *shape]."""
    capacity: int
    """StageInput that the passes could have had: ≥ N."""
    forward_seconds: float
    copy_seconds: float | None = None
    """From the device to the host; None where they are the same."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All samples in order; the rest is added up."""
        if len(parts) == 1:
            return parts[0]
        copies = [part.copy_seconds for part in parts if part.copy_seconds is not None]
        return cls(
            np.concatenate([part.samples for part in parts]),
            sum(part.capacity for part in parts),
            sum(part.forward_seconds for part in parts),
            sum(copies) if copies else None,
        )


class Runner(Protocol):
    """Runs forward passes on a device, from any thread and without holding Python's lock while it waits."""

    def run(self, rows: StageInput, size: int) -> Computed:
        """One forward pass of `size` rows, of which `rows` are wanted. Raises OutOfMemoryError."""
        ...


class StageExecutor:
    """What the engine queues for: a model that is ready to run."""

    def __init__(
        self, model: str, runner: Runner, calibration: Calibration, version: str = "", stage: Stage = "synthesis"
    ) -> None:
        """A stage of `version` of a model."""
        self.model = model
        self.stage = stage
        self.name = f"{model}@{version}" if version else model
        self.calibration = calibration
        self._runner = runner

    def compute(self, rows: StageInput) -> Computed:
        """Samples of N rows, in as many passes as they take.

        Where the device has not the memory for the largest size, sizes above its half are given up for good.
        Raises OutOfMemoryError where the smallest size does not fit either, and whatever the generator raises.
        """
        parts: list[Computed] = []
        done = 0
        while done < len(rows):
            size = self.calibration.choose(len(rows) - done)
            part = rows[done : done + size]
            try:
                parts.append(self._runner.run(part, size))
            except OutOfMemoryError:
                smaller = self.calibration.up_to(size // 2)
                if smaller is None:
                    raise
                self.calibration = smaller
                logger.warning(
                    "%s: no memory for %d samples in a pass; from now on %d", self.name, size, smaller.largest
                )
            else:
                done += len(part)
        return Computed.join(parts)
