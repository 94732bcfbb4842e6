"""Forward passes on the CPU: each size is traced once, and from then on runs without Python.

A pass that Python leads gives Python's lock up and takes it back at every layer, and each time waits for others.
"""

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import TracerWarning, optimized_execution, trace  # type: ignore[attr-defined]  # not in its __all__

from latentd.models.sampling import StageInput, forward_pass
from latentd.service.engine.executor import Computed, OutOfMemoryError

logger = logging.getLogger("latentd.engine")

_Function = Callable[..., Tensor]
_functions: dict[tuple[str, int], _Function | None] = {}
"""Traces by architecture and size; None where there is none. Torch never forgets one, so that versions of a model share
theirs: weights are among a trace's arguments."""
_tracing = threading.Lock()


class CpuRunner:
    """Runs where the caller runs: as many at a time as there are callers."""

    def __init__(self, stage: nn.Module, architecture: str) -> None:
        """`architecture`: the same for stages that differ in nothing but their weights."""
        self._stage = stage
        self._architecture = architecture
        self._passes: dict[int, nn.Module] = {}

    def run(self, rows: StageInput, size: int) -> Computed:
        try:
            with optimized_execution(False):  # it might round differently from the second call on
                if size not in self._passes:
                    self._passes[size] = self._prepare(rows, size)
                started = time.perf_counter()
                samples = forward_pass(self._passes[size], rows, size)
                return Computed(samples, size, time.perf_counter() - started)
        except RuntimeError as problem:
            if "DefaultCPUAllocator" in str(problem):  # torch has no type of its own for this
                raise OutOfMemoryError(str(problem)) from problem
            raise

    def _prepare(self, rows: StageInput, size: int) -> nn.Module:
        """The stage for passes of `size` alone; as it is where its trace gives other values for `rows`."""
        expected = forward_pass(self._stage, rows, size)
        key = (self._architecture, size)
        with _tracing:
            if key not in _functions:
                _functions[key] = _trace(self._stage, rows, size)
        function = _functions[key]
        if function is None:
            return self._stage
        traced = _Traced(self._stage, function)
        if forward_pass(traced, rows, size).tobytes() == expected.tobytes():
            return traced
        logger.info("%s gives other values when traced, and is not", type(self._stage).__name__)
        return self._stage


class _Traced(nn.Module):
    """A stage's weights with what was traced of its architecture."""

    def __init__(self, stage: nn.Module, function: _Function) -> None:
        super().__init__()
        self.stage = stage
        self._tensors = list(_tensors(stage).values())
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs, *self._tensors)


def _trace(stage: nn.Module, rows: StageInput, size: int) -> _Function | None:
    """A function of `stage`'s inputs and weights, for passes of `size` alone."""
    inputs = tuple(torch.from_numpy(each) for each in rows[:0].padded_to(size))
    names, tensors = zip(*_tensors(stage).items(), strict=True)
    empty = copy.deepcopy(stage).to("meta")

    def call(*values: Tensor) -> Tensor:  # as torch.func.functional_call does it, which refuses to be traced
        for name, value in zip(names, values[len(inputs) :], strict=True):
            _place(empty, name, value)
        output: Tensor = empty(*values[: len(inputs)])
        for name in names:
            _place(empty, name, None)  # torch keeps this function; it should not keep weights
        return output

    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)  # of what is fixed by the size, as it should be
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile wants a compiler where this is served
            function: _Function = trace(call, (*inputs, *tensors), check_trace=False)  # type: ignore[no-untyped-call]  # in torch
    except Exception as problem:  # noqa: BLE001  # whatever a model does that cannot be traced
        logger.info("%s cannot be traced: %s", type(stage).__name__, problem)
        return None
    return function


def _place(stage: nn.Module, name: str, tensor: Tensor | None) -> None:
    path, _, leaf = name.rpartition(".")
    owner = stage.get_submodule(path)
    kind: Any = owner._parameters if leaf in owner._parameters else owner._buffers
    kind[leaf] = tensor


def _tensors(stage: nn.Module) -> dict[str, Tensor]:
    return dict(stage.named_parameters()) | dict(stage.named_buffers())
