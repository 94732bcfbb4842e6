"""Forward passes on a CUDA device: one stream computes, another one copies, and each size has a CUDA graph.

A pass is launched without waiting for it. Its samples are copied to the host while the next pass computes, so the
caller waits only for the copy. All graphs share one memory pool, which is as large as the largest pass needs.
"""

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.stage_input import StageInput
from latentd.service.engine.cuda_buffers import InputLayout, OutputLayout, Quantize, Transfer
from latentd.service.engine.executor import ForwardResult, OutOfMemoryError

logger = logging.getLogger("latentd.engine")


class CudaDevice:
    """What all models on one device share: streams, the memory pool of graphs, buffers for copies, the launch lock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.launch_lock = threading.Lock()
        self.pool: Any = torch.cuda.graph_pool_handle()
        self._pool_owner = torch.cuda.CUDAGraph()  # a pool becomes unusable when the last graph that uses it is freed
        with torch.cuda.graph(self._pool_owner, pool=self.pool, stream=self.compute):
            torch.zeros(1, device=device)
        self._transfers: list[Transfer] = []
        self._transfer_bytes = (0, 0)
        self._transfer_lock = threading.Lock()

    @contextmanager
    def transfer(self, input_bytes: int, output_bytes: int) -> Iterator[Transfer]:
        """Lend the buffers of one pass. There are as many as passes run at the same time, each for the largest pass."""
        with self._transfer_lock:
            transfer = self._transfers.pop() if self._transfers else None
            before = self._transfer_bytes
            self._transfer_bytes = max(before[0], input_bytes), max(before[1], output_bytes)
        if transfer is None or not transfer.fits(input_bytes, output_bytes):
            transfer = Transfer(self.device, *self._transfer_bytes)
        try:
            yield transfer
        finally:
            with self._transfer_lock:
                self._transfers.append(transfer)

    def empty_cache(self) -> None:
        """Return unused memory to the system. Waits while a graph is captured."""
        with self._transfer_lock:
            self._transfers.clear()
            self._transfer_bytes = (0, 0)
        with self.launch_lock:
            torch.cuda.empty_cache()


class CudaRunner:
    """Runs a stage whose weights are already on `device`."""

    def __init__(self, device: CudaDevice, stage: nn.Module, quantize: Quantize | None = None) -> None:
        """`quantize`: how samples are quantized; None if they cannot be."""
        self._device = device
        self._stage = stage
        self._quantize = quantize
        self._passes: dict[int, _Pass] = {}
        device.compute.wait_stream(torch.cuda.current_stream(device.device))  # which may still be writing the weights

    def prepare(self, rows: StageInput, sizes: Collection[int]) -> None:
        """Capture a pass of each of the sizes, and forget all others. Sizes that do not fit are left out."""
        self._passes = {size: each for size, each in self._passes.items() if size in sizes}
        for size in sorted(sizes):
            try:
                self.run(rows[:size], size)
            except OutOfMemoryError as problem:
                logger.info("a forward pass of %d samples does not fit the device's memory: %s", size, problem)
                return

    def run(self, rows: StageInput, size: int, quantized: bool = False) -> ForwardResult:
        try:
            return self._run(rows, size, quantized and self._quantize is not None)
        except RuntimeError as problem:
            if not _is_out_of_memory(problem):
                raise
            self._passes.pop(size, None)
            self._device.empty_cache()
            raise OutOfMemoryError(str(problem)) from problem

    def _run(self, rows: StageInput, size: int, quantized: bool) -> ForwardResult:
        layout = InputLayout(rows, size)
        one_pass = self._passes.get(size) or self._capture(layout)
        output = one_pass.layouts[quantized]
        with self._device.transfer(layout.bytes, output.bytes) as transfer:
            layout.write(rows, transfer.input)
            with self._device.launch_lock, torch.inference_mode():
                self._launch(one_pass, transfer, quantized)
            transfer.copied.synchronize()
            samples, finite = output.read(transfer.output, len(rows))
            return ForwardResult(samples, size, transfer.forward_seconds, transfer.copy_seconds, finite)

    def _capture(self, layout: InputLayout) -> "_Pass":
        device = self._device
        with device.launch_lock, torch.inference_mode(), torch.cuda.stream(device.compute):
            if layout.size not in self._passes:  # another thread may have been faster
                self._passes[layout.size] = _Pass(device, self._stage, self._quantize, layout)
            return self._passes[layout.size]

    def _launch(self, one_pass: "_Pass", transfer: Transfer, quantized: bool) -> None:
        """Launch the copy of the input, the pass, and the copy of the output. Return before they are done."""
        device, size = self._device, one_pass.layouts[quantized].bytes
        with torch.cuda.stream(device.compute):
            transfer.started.record(device.compute)
            one_pass.input.copy_(transfer.input[: len(one_pass.input)], non_blocking=True)
            computed = one_pass.compute(quantized)
            transfer.staged[:size].copy_(computed, non_blocking=True)  # the next pass overwrites what a graph computes
            transfer.computed.record(device.compute)
        device.copies.wait_event(transfer.computed)
        with torch.cuda.stream(device.copies):
            transfer.output[:size].copy_(transfer.staged[:size], non_blocking=True)
            transfer.copied.record(device.copies)


class _Pass:
    """A forward pass of one size: a CUDA graph, or a plain call if the stage cannot be captured."""

    def __init__(self, device: CudaDevice, stage: nn.Module, quantize: Quantize | None, layout: InputLayout) -> None:
        self._stage = stage
        self.input = torch.zeros(layout.bytes, dtype=torch.uint8, device=device.device)
        """All arguments of the stage, which one copy brings."""
        self._arguments = layout.split(self.input)
        samples = self._forward()  # libraries initialize themselves on the first call, which must not be captured
        self.layouts = {False: OutputLayout(samples)}
        """The layouts of float samples (False) and of quantized ones (True)."""
        if quantize is not None:
            self.layouts[True] = OutputLayout(samples, quantize)
        self._outputs = self._pack(samples)
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                self._graph, pool=device.pool, stream=device.compute, capture_error_mode="thread_local"
            ):
                self._outputs = self._pack(self._forward())
        except RuntimeError as problem:
            if _is_out_of_memory(problem):
                raise
            logger.warning("%s cannot be captured as a CUDA graph: %s", type(stage).__name__, problem)
            self._graph = None

    def compute(self, quantized: bool) -> Tensor:
        """Return the output as bytes, which the next pass may overwrite."""
        if self._graph is None:
            return self.layouts[quantized].pack(self._forward())
        self._graph.replay()
        return self._outputs[quantized]

    def _pack(self, samples: Tensor) -> dict[bool, Tensor]:
        return {quantized: layout.pack(samples) for quantized, layout in self.layouts.items()}

    def _forward(self) -> Tensor:
        output: Tensor = self._stage(*self._arguments)
        return output.float().contiguous()  # [size, *shape]


def _is_out_of_memory(problem: RuntimeError) -> bool:
    """Return whether there was too little memory. Libraries and graphs do not always raise torch.OutOfMemoryError."""
    return isinstance(problem, torch.OutOfMemoryError) or any(
        words in str(problem) for words in ("out of memory", "ALLOC_FAILED")
    )
