"""A generator on its device, and the sizes of forward pass that it may run in."""

import logging
from typing import Protocol

import numpy as np

from models.outputs.base import Samples
from models.sampling import Rows
from service.engine.calibration import Calibration

logger = logging.getLogger("latentd.engine")


class NotFiniteError(ArithmeticError):
    """A sample holds an infinity or no number at all."""


class OutOfMemoryError(Exception):
    """The device has not the memory for a forward pass of this size."""


class Runner(Protocol):
    """Runs forward passes on a device, from any thread and without holding Python's lock while it waits."""

    def run(self, rows: Rows, size: int) -> Samples:
        """One forward pass of `size` rows, of which `rows` are wanted. Raises OutOfMemoryError."""
        ...


class Replica:
    """What the engine queues for: a model that is ready to run."""

    def __init__(self, name: str, runner: Runner, calibration: Calibration) -> None:
        self.name = name
        self.calibration = calibration
        self._runner = runner

    def compute(self, rows: Rows) -> Samples:
        """Samples [N, *shape] of N rows, in as many passes as they take.

        Where the device has not the memory for the largest size, sizes above its half are given up for good.
        Raises OutOfMemoryError where the smallest size does not fit either, and whatever the generator raises.
        """
        parts: list[Samples] = []
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
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
