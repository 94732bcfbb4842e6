"""Forward passes on a CUDA device: one stream computes, another copies, and each size of pass is one CUDA graph.

A pass is launched and left; its samples are copied out behind it while the next one computes, so whoever wants them
waits for the copy alone. Graphs share one memory pool, which is as large as the largest pass needs.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.family import Generator
from models.outputs.base import Samples
from models.sampling import Rows
from service.engine.replica import OutOfMemoryError

logger = logging.getLogger("latentd.engine")


class CudaDevice:
    """What all models on one device share."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # in torch
        self.launching = threading.Lock()
        self.pool: Any = torch.cuda.graph_pool_handle()


class CudaRunner:
    """One generator on `device`, where it has to be already."""

    def __init__(self, device: CudaDevice, generator: Generator) -> None:
        self._device = device
        self._generator = generator
        self._passes: dict[int, _Pass] = {}

    def run(self, rows: Rows, size: int) -> Samples:
        try:
            with self._device.launching, torch.inference_mode():
                host, copied = self._launch(rows, size)
        except torch.OutOfMemoryError as problem:
            self._passes.pop(size, None)
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(problem)) from problem
        copied.synchronize()
        samples: Samples = host.numpy()[: len(rows)].copy()  # pinned memory is scarce, and goes back at once
        return samples

    def _launch(self, rows: Rows, size: int) -> tuple[Tensor, torch.cuda.Event]:
        """Start one pass and the copy of its samples; gives pinned memory, and what says that they have arrived."""
        device = self._device
        latents, weights = rows.padded(size)
        inputs = [torch.from_numpy(each).pin_memory() for each in (latents, weights) if each is not None]
        with torch.cuda.stream(device.compute):
            if size not in self._passes:
                self._passes[size] = _Pass(device, self._generator, inputs)
            samples = self._passes[size](inputs)  # [size, *shape]
        device.copies.wait_stream(device.compute)
        with torch.cuda.stream(device.copies):
            host = torch.empty(samples.shape, pin_memory=True)
            host.copy_(samples, non_blocking=True)
            samples.record_stream(device.copies)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # in torch
            copied.record(device.copies)
        return host, copied


class _Pass:
    """A forward pass of one size: a CUDA graph, or the plain call where the generator cannot be captured."""

    def __init__(self, device: CudaDevice, generator: Generator, inputs: list[Tensor]) -> None:
        self._inputs = [each.to(device.device) for each in inputs]
        self._output: Tensor
        self._replay: Callable[[], None]
        self._forward(generator)  # what libraries set up on a first call must not be captured
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=device.pool, stream=device.compute, capture_error_mode="thread_local"):
                self._forward(generator)
            self._replay = graph.replay
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            logger.warning("%s cannot be captured as a CUDA graph: %s", generator.spec.family, problem)
            self._replay = lambda: self._forward(generator)

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        self._replay()
        return self._output.float().clone()  # the graph's own output is overwritten by the next pass

    def _forward(self, generator: Generator) -> None:
        self._output = generator(self._inputs[0], self._inputs[1] if len(self._inputs) > 1 else None)
