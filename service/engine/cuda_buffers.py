"""Buffers between the host and a CUDA device: one copy for the input of a forward pass, and one for its output."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentd.models.outputs.base import Samples
from latentd.models.stage_input import StageInput

Quantize = Callable[[Tensor], Tensor]
"""Float samples [N, *shape] → the output kind's quantized samples, on the same device."""

_ALIGNMENT = 512
"""Bytes, as torch aligns tensors. Libraries choose kernels by the alignment too, and kernels may round differently."""
_FLOAT_BYTES = 4


class Transfer:
    """The buffers and events of one pass. Later passes use them again, because making pinned memory is slow."""

    def __init__(self, device: torch.device, input_bytes: int, output_bytes: int) -> None:
        self.input = torch.empty(input_bytes, dtype=torch.uint8, pin_memory=True)
        self.output = torch.empty(output_bytes, dtype=torch.uint8, pin_memory=True)
        self.staged = torch.empty(output_bytes, dtype=torch.uint8, device=device)
        """The output on the device, while it is copied."""
        self.started, self.computed, self.copied = (
            torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]  # in torch
            for _ in range(3)
        )

    def fits(self, input_bytes: int, output_bytes: int) -> bool:
        """Return whether the buffers are large enough."""
        return len(self.input) >= input_bytes and len(self.output) >= output_bytes

    @property
    def forward_seconds(self) -> float:
        """The duration of the last pass."""
        return float(self.started.elapsed_time(self.computed)) / 1e3

    @property
    def copy_seconds(self) -> float:
        """The duration of the last copy to the host."""
        return float(self.computed.elapsed_time(self.copied)) / 1e3


class InputLayout:
    """The positions of a pass's arguments, with `size` rows each, in one buffer of bytes."""

    def __init__(self, rows: StageInput, size: int) -> None:
        self.size = size
        self._shapes = [(size, *array.shape[1:]) for array in rows.arrays]
        self._starts = []
        end = 0
        for shape in self._shapes:
            self._starts.append(end)
            end += -(-_FLOAT_BYTES * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
        self.bytes = end

    def write(self, rows: StageInput, buffer: Tensor) -> None:
        """Write the rows, and zeros for the padding, into a buffer on the host."""
        memory = buffer.numpy()
        for array, start, shape in zip(rows.arrays, self._starts, self._shapes, strict=True):
            part = memory[start : start + _FLOAT_BYTES * math.prod(shape)].view(np.float32).reshape(shape)
            part[: len(array)] = array
            part[len(array) :] = 0.0

    def split(self, buffer: Tensor) -> list[Tensor]:
        """Return the stage's arguments as views of a buffer on the device."""
        return [
            buffer[start : start + _FLOAT_BYTES * math.prod(shape)].view(torch.float32).view(shape)
            for start, shape in zip(self._starts, self._shapes, strict=True)
        ]


class OutputLayout:
    """How the samples of a pass are packed into one buffer of bytes.

    Float samples are packed unchanged. Before quantized samples comes the largest magnitude of each sample, because
    integers do not show whether the sample was finite.
    """

    def __init__(self, samples: Tensor, quantize: Quantize | None = None) -> None:
        """`samples` [size, *shape]: those of any pass of this size. `quantize`: None for float samples."""
        self._shape = tuple(samples.shape)
        self._quantize = quantize
        self._dtype = torch.float32 if quantize is None else quantize(samples[:1]).dtype
        self._magnitude_bytes = 0 if quantize is None else _FLOAT_BYTES * len(samples)
        self.bytes = self._magnitude_bytes + self._dtype.itemsize * samples.numel()

    def pack(self, samples: Tensor) -> Tensor:
        """Return float samples [size, *shape] as bytes [self.bytes], on their device."""
        if self._quantize is None:
            return samples.reshape(-1).view(torch.uint8)
        magnitudes = samples.flatten(1).abs().amax(dim=1)  # [size]; NaN if one of the values is
        quantized = self._quantize(samples).reshape(-1)
        return torch.cat([magnitudes.view(torch.uint8), quantized.view(torch.uint8)])

    def read(self, buffer: Tensor, count: int) -> tuple[Samples, NDArray[np.bool_] | None]:
        """Return a copy of the first `count` samples in a buffer on the host, and whether each of them was finite.

        For float samples, the second value is None, because they show it themselves.
        """
        start = self._magnitude_bytes
        samples: Samples = buffer[start : self.bytes].view(self._dtype).view(self._shape)[:count].numpy().copy()
        if self._quantize is None:
            return samples, None
        return samples, np.isfinite(buffer[:start].view(torch.float32)[:count].numpy())
