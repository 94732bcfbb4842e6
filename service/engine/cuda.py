"""Forward passes on a CUDA device: one stream computes, another one copies, and each size has a CUDA graph.

A pass is launched without waiting for it. Its samples are copied to the host while the next pass computes, so the
caller waits only for the copy. All graphs share one memory pool, which is as large as the largest pass needs.
"""

import logging
import threading
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.outputs.base import Samples
from latentd.models.stage_input import StageInput
from latentd.service.engine.executor import ForwardResult, OutOfMemoryError

logger = logging.getLogger("latentd.engine")


class CudaDevice:
    """The streams, the memory pool and the launch lock that all models on one device share."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.launch_lock = threading.Lock()
        self.pool: Any = torch.cuda.graph_pool_handle()
        self._pool_owner = torch.cuda.CUDAGraph()  # a pool becomes unusable when the last graph that uses it is freed
        with torch.cuda.graph(self._pool_owner, pool=self.pool, stream=self.compute):
            torch.zeros(1, device=device)

    def empty_cache(self) -> None:
        """Return unused memory to the system. Waits while a graph is captured."""
        with self.launch_lock:
            torch.cuda.empty_cache()


class CudaRunner:
    """Runs a stage whose weights are already on `device`."""

    def __init__(self, device: CudaDevice, stage: nn.Module) -> None:
        self._device = device
        self._stage = stage
        self._passes: dict[int, _Pass] = {}
        device.compute.wait_stream(torch.cuda.current_stream(device.device))  # which may still be writing the weights

    def run(self, rows: StageInput, size: int) -> ForwardResult:
        try:
            with self._device.launch_lock, torch.inference_mode():
                host, started, computed, copied = self._launch(rows, size)
        except RuntimeError as problem:
            if not _is_out_of_memory(problem):
                raise
            self._passes.pop(size, None)
            self._device.empty_cache()
            raise OutOfMemoryError(str(problem)) from problem
        copied.synchronize()
        samples: Samples = host.numpy()[: len(rows)].copy()  # pinned memory is scarce, so it is freed at once
        forward, copy = started.elapsed_time(computed), computed.elapsed_time(copied)  # milliseconds
        return ForwardResult(samples, size, forward / 1e3, copy / 1e3)

    def _launch(
        self, rows: StageInput, size: int
    ) -> tuple[Tensor, torch.cuda.Event, torch.cuda.Event, torch.cuda.Event]:
        """Launch one pass and the copy of its samples.

        Return the pinned memory that receives the samples, and three events: the pass starts, the pass is done, the
        copy is done.
        """
        device = self._device
        inputs = [torch.from_numpy(each).pin_memory() for each in rows.padded_to(size)]
        with torch.cuda.stream(device.compute):
            if size not in self._passes:
                self._passes[size] = _Pass(device, self._stage, inputs)
            started = _record_event(device.compute)
            samples = self._passes[size](inputs)  # [size, *shape]
            computed = _record_event(device.compute)
        device.copies.wait_stream(device.compute)
        with torch.cuda.stream(device.copies):
            host = torch.empty(samples.shape, pin_memory=True)
            host.copy_(samples, non_blocking=True)
            samples.record_stream(device.copies)
            copied = _record_event(device.copies)
        return host, started, computed, copied


def _record_event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """Return an event that occurs when `stream` has done its work so far."""
    event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]  # in torch
    event.record(stream)
    return event


class _Pass:
    """A forward pass of one size: a CUDA graph, or a plain call if the stage cannot be captured."""

    def __init__(self, device: CudaDevice, stage: nn.Module, inputs: list[Tensor]) -> None:
        self._inputs = [each.to(device.device) for each in inputs]
        self._stage = stage
        self._output = self._forward()  # libraries initialize themselves on the first call, which must not be captured
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                self._graph, pool=device.pool, stream=device.compute, capture_error_mode="thread_local"
            ):
                self._output = self._forward()
        except RuntimeError as problem:
            if _is_out_of_memory(problem):
                raise
            logger.warning("%s cannot be captured as a CUDA graph: %s", type(stage).__name__, problem)
            self._graph = None

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        if self._graph is None:
            return self._forward().float()
        self._graph.replay()
        return self._output.float().clone()  # the graph's own output is overwritten by the next pass

    def _forward(self) -> Tensor:
        output: Tensor = self._stage(*self._inputs)
        return output


def _is_out_of_memory(problem: RuntimeError) -> bool:
    """Return whether there was too little memory. Libraries and graphs do not always raise torch.OutOfMemoryError."""
    return isinstance(problem, torch.OutOfMemoryError) or any(
        words in str(problem) for words in ("out of memory", "ALLOC_FAILED")
    )
