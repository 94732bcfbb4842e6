"""A stage of a generator on its device, and the sizes of forward passes in which it may run."""

import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from latentd.models.outputs.base import Samples
from latentd.models.stage_input import StageInput
from latentd.service.engine.calibration import Calibration

logger = logging.getLogger("latentd.engine")


class NotFiniteError(ArithmeticError):
    """A sample contains an infinity or a NaN."""


class OutOfMemoryError(Exception):
    """The device has too little memory for a forward pass of this size."""


class ForwardResult(NamedTuple):
    """The output of forward passes, and their time."""

    samples: Samples
    """[N, *shape]. They may be quantized if the caller accepts that."""
    capacity: int
    """Rows of the passes, with padding: at least N."""
    forward_seconds: float
    copy_seconds: float | None = None
    """Time of the copy from the device to the host; None on a CPU."""
    finite: NDArray[np.bool_] | None = None
    """[N]: whether each sample was finite. None if the samples themselves show it."""

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the samples in order, and add up the rest."""
        if len(parts) == 1:
            return parts[0]
        copies = [part.copy_seconds for part in parts if part.copy_seconds is not None]
        finite = [part.finite for part in parts if part.finite is not None]
        return cls(
            np.concatenate([part.samples for part in parts]),
            sum(part.capacity for part in parts),
            sum(part.forward_seconds for part in parts),
            sum(copies) if copies else None,
            np.concatenate(finite) if finite else None,
        )


class Runner(Protocol):
    """Runs forward passes on a device. Any thread may call it. It does not hold the GIL while it waits."""

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        """Run one forward pass on `rows` (at most `size`), padded to `size` rows.

        `quantized`: the caller accepts quantized samples. A runner returns them if that is faster. Raises
        OutOfMemoryError if the device has too little memory for the pass.
        """
        ...

    def prepare(self, rows: StageInput, sizes: Collection[int]) -> None:
        """Run a pass of each size, with any rows, so that no later pass is a first one. No other size will be used."""
        ...


class StageExecutor:
    """One stage of a model, ready to run. The engine queues rows for it."""

    def __init__(
        self, model: str, runner: Runner, calibration: Calibration, version: str = "", stage: str = "synthesis"
    ) -> None:
        """`model` and `version`: the model that the stage belongs to, for reports and the log."""
        self.model = model
        self.stage = stage
        self.name = f"{model}@{version}" if version else model
        self.calibration = calibration
        self._runner = runner

    def compute(self, rows: StageInput, quantized: bool = False) -> ForwardResult:
        """Compute the samples of N rows, in as many passes as necessary. `quantized`: as in Runner.run.

        If the device has too little memory for a pass, sizes above half of it are never used again. Raises
        OutOfMemoryError if the smallest size does not fit either. Exceptions of the generator are raised too.
        """
        parts: list[ForwardResult] = []
        done = 0
        while done < len(rows):
            size = self.calibration.choose_size(len(rows) - done)
            part = rows[done : done + size]
            try:
                parts.append(self._runner.run(part, size, quantized))
            except OutOfMemoryError:
                smaller = self.calibration.limited_to(size // 2)
                if smaller is None:
                    raise
                self.calibration = smaller
                logger.warning(
                    "%s: no memory for %d samples in a pass; from now on %d", self.name, size, smaller.largest
                )
            else:
                done += len(part)
        return ForwardResult.concatenate(parts)
