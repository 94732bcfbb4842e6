"""Forward passes on the CPU: each size is traced once, and from then on runs without Python.

A pass that Python leads gives Python's lock up and takes it back at every layer, and each time waits for others.
"""

import logging
import threading
import warnings

import torch
from torch import nn
from torch.jit import TracerWarning, optimized_execution, trace  # type: ignore[attr-defined]  # not in its __all__

from models.family import Generator
from models.outputs.base import Samples
from models.sampling import Rows, forward
from service.engine.replica import OutOfMemoryError

logger = logging.getLogger("latentd.engine")


class CpuRunner:
    """Runs where the caller runs: as many at a time as there are callers."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._passes: dict[int, nn.Module] = {}
        self._tracing = threading.Lock()

    def run(self, rows: Rows, size: int) -> Samples:
        try:
            if size not in self._passes:
                with self._tracing:
                    self._passes[size] = _trace(self._generator, rows, size)
            with optimized_execution(False):  # it might round differently from the second call on
                return forward(self._passes[size], rows, size)
        except RuntimeError as problem:
            if "DefaultCPUAllocator" in str(problem):  # torch has no type of its own for this
                raise OutOfMemoryError(str(problem)) from problem
            raise


def _trace(generator: Generator, rows: Rows, size: int) -> nn.Module:
    """`generator` for passes of `size` alone; itself where its trace gives other samples for `rows`."""
    expected = forward(generator, rows, size)
    zeros = tuple(torch.from_numpy(each) for each in rows[:0].padded(size))
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)  # of what is fixed by the size, as it should be
            traced: nn.Module = trace(generator, zeros, check_trace=False)  # type: ignore[no-untyped-call]  # in torch
        same = forward(traced, rows, size).tobytes() == expected.tobytes()
    except RuntimeError as problem:
        logger.info("%s cannot be traced: %s", generator.spec.family, problem)
        return generator
    if not same:
        logger.info("%s gives other samples when traced, and is not", generator.spec.family)
    return traced if same else generator
