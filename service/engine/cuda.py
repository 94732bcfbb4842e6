"""Forward passes on a CUDA device: one stream computes, another copies, and each size of pass is one CUDA graph.

A pass is launched and left; its samples are copied out behind it while the next one computes, so whoever wants them
waits for the copy alone. Graphs share one memory pool, which is as large as the largest pass needs.
"""

import logging
import threading
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput
from latentd.service.engine.executor import Computed, OutOfMemoryError

logger = logging.getLogger("latentd.engine")


class CudaDevice:
    """What all models on one device share."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.launching = threading.Lock()
        self.pool: Any = torch.cuda.graph_pool_handle()
        self._keeper = torch.cuda.CUDAGraph()  # a pool that no graph uses any more cannot be used again
        with torch.cuda.graph(self._keeper, pool=self.pool, stream=self.compute):
            torch.zeros(1, device=device)

    def free(self) -> None:
        """Give memory that nothing uses back to the system; not while a graph is being captured."""
        with self.launching:
            torch.cuda.empty_cache()


class CudaRunner:
    """One stage of a generator on `device`, where it has to be already."""

    def __init__(self, device: CudaDevice, stage: nn.Module) -> None:
        self._device = device
        self._stage = stage
        self._passes: dict[int, _Pass] = {}
        device.compute.wait_stream(torch.cuda.current_stream(device.device))  # where the weights are still being made

    def run(self, rows: StageInput, size: int) -> Computed:
        try:
            with self._device.launching, torch.inference_mode():
                host, begun, computed, copied = self._launch(rows, size)
        except RuntimeError as problem:
            if not _is_out_of_memory(problem):
                raise
            self._passes.pop(size, None)
            self._device.free()
            raise OutOfMemoryError(str(problem)) from problem
        copied.synchronize()
        samples: Samples = host.numpy()[: len(rows)].copy()  # pinned memory is scarce, and goes back at once
        forward, copy = begun.elapsed_time(computed), computed.elapsed_time(copied)  # milliseconds
        return Computed(samples, size, forward / 1e3, copy / 1e3)

    def _launch(
        self, rows: StageInput, size: int
    ) -> tuple[Tensor, torch.cuda.Event, torch.cuda.Event, torch.cuda.Event]:
        """Start one pass and the copy of its samples.

        Gives pinned memory, and what says that the pass was begun, that it is done, and that its samples have arrived.
        """
        device = self._device
        inputs = [torch.from_numpy(each).pin_memory() for each in rows.padded_to(size)]
        with torch.cuda.stream(device.compute):
            if size not in self._passes:
                self._passes[size] = _Pass(device, self._stage, inputs)
            begun = _mark(device.compute)
            samples = self._passes[size](inputs)  # [size, *shape]
            computed = _mark(device.compute)
        device.copies.wait_stream(device.compute)
        with torch.cuda.stream(device.copies):
            host = torch.empty(samples.shape, pin_memory=True)
            host.copy_(samples, non_blocking=True)
            samples.record_stream(device.copies)
            copied = _mark(device.copies)
        return host, begun, computed, copied


def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """What tells when `stream` came here."""
    event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]  # in torch
    event.record(stream)
    return event


class _Pass:
    """A forward pass of one size: a CUDA graph, or the plain call where the stage cannot be captured."""

    def __init__(self, device: CudaDevice, stage: nn.Module, inputs: list[Tensor]) -> None:
        self._inputs = [each.to(device.device) for each in inputs]
        self._stage = stage
        self._output = self._forward()  # what libraries set up on a first call must not be captured
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
    """Libraries and graphs say it in types of their own."""
    return isinstance(problem, torch.OutOfMemoryError) or any(
        words in str(problem) for words in ("out of memory", "ALLOC_FAILED")
    )
