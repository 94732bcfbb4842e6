"""Forward passes on the CPU. Each size is traced once, and then runs without Python.

A pass that Python runs releases the GIL and takes it again at every layer, and waits for other threads each time.
"""

import copy
import logging
import threading
import time
import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import TracerWarning, optimized_execution, trace  # type: ignore[attr-defined]  # not in its __all__

from latentd.models.sampling import forward_pass
from latentd.models.stage_input import StageInput
from latentd.service.engine.executor import ForwardResult, OutOfMemoryError

logger = logging.getLogger("latentd.engine")

_StageFunction = Callable[..., Tensor]
"""(inputs of a stage, then its parameters and buffers) → the output."""
_traces: dict[tuple[str, int], _StageFunction | None] = {}
"""Traces by architecture and size; None if the stage cannot be traced. Torch never frees a trace, so the versions of a
model share it. The weights are arguments of a trace."""
_trace_lock = threading.Lock()


class CpuRunner:
    """Runs each pass on the thread that calls it, so several passes run at the same time."""

    def __init__(self, stage: nn.Module, architecture: str) -> None:
        """`architecture`: a text that is equal for stages that differ only in their weights."""
        self._stage = stage
        self._architecture = architecture
        self._passes: dict[int, nn.Module] = {}

    def prepare(self, rows: StageInput, sizes: Collection[int]) -> None:
        """Nothing is necessary: the model's architecture was traced when it was calibrated."""

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        del quantized  # nothing is copied, so the encoder may round as well
        try:
            with optimized_execution(False):  # the optimizer may round differently from the second call on
                if size not in self._passes:
                    self._passes[size] = self._prepare(rows, size)
                started = time.perf_counter()
                samples = forward_pass(self._passes[size], rows, size)
                return ForwardResult(samples, size, time.perf_counter() - started)
        except RuntimeError as problem:
            if "DefaultCPUAllocator" in str(problem):  # torch has no type of its own for this
                raise OutOfMemoryError(str(problem)) from problem
            raise

    def _prepare(self, rows: StageInput, size: int) -> nn.Module:
        """Return the traced stage for `size`, or the untraced one if the trace gives other values for `rows`."""
        expected = forward_pass(self._stage, rows, size)
        key = (self._architecture, size)
        with _trace_lock:
            if key not in _traces:
                _traces[key] = _trace(self._stage, rows, size)
        function = _traces[key]
        if function is None:
            return self._stage
        traced = _TracedStage(self._stage, function)
        if forward_pass(traced, rows, size).tobytes() == expected.tobytes():
            return traced
        logger.info("%s gives other values when traced, so it runs untraced", type(self._stage).__name__)
        return self._stage


class _TracedStage(nn.Module):
    """The trace of an architecture with the weights of one stage."""

    def __init__(self, stage: nn.Module, function: _StageFunction) -> None:
        super().__init__()
        self.stage = stage
        self._tensors = list(_tensors(stage).values())
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs, *self._tensors)


def _trace(stage: nn.Module, rows: StageInput, size: int) -> _StageFunction | None:
    """Trace `stage` for passes of `size`; None if that fails."""
    inputs = tuple(torch.from_numpy(each) for each in rows[:0].padded_to(size))
    names, tensors = zip(*_tensors(stage).items(), strict=True)
    empty = copy.deepcopy(stage).to("meta")

    def call(*values: Tensor) -> Tensor:  # like torch.func.functional_call, which cannot be traced
        for name, value in zip(names, values[len(inputs) :], strict=True):
            _set_tensor(empty, name, value)
        output: Tensor = empty(*values[: len(inputs)])
        for name in names:
            _set_tensor(empty, name, None)  # torch keeps this function, which must not keep the weights
        return output

    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)  # about values that depend on the size, which is fixed
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile needs a C++ compiler on the server
            traced: _StageFunction = trace(call, (*inputs, *tensors), check_trace=False)  # type: ignore[no-untyped-call]  # in torch
    except Exception as problem:  # noqa: BLE001  # anything in a model may be impossible to trace
        logger.info("%s cannot be traced: %s", type(stage).__name__, problem)
        return None
    return traced


def _set_tensor(stage: nn.Module, name: str, tensor: Tensor | None) -> None:
    path, _, leaf = name.rpartition(".")
    owner = stage.get_submodule(path)
    kind: Any = owner._parameters if leaf in owner._parameters else owner._buffers
    kind[leaf] = tensor


def _tensors(stage: nn.Module) -> dict[str, Tensor]:
    return dict(stage.named_parameters()) | dict(stage.named_buffers())
