"""Samples from latents, in forward passes of fixed sizes, so that a sample's bits never depend on its batch.

Libraries choose a kernel by the shape of the problem, so results may differ in rounding between batch sizes. Within one
shape, a row does not depend on its neighbours. A pass of REFERENCE_BATCH_SIZE defines a sample's bits; other sizes may
be used if a test on the device has shown that they give the same bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentd.models.family import Generator, TwoStageGenerator
from latentd.models.latents import Latents, truncate
from latentd.models.outputs.base import Samples
from latentd.models.spec import ClassCondition, GeneratorSpec

REFERENCE_BATCH_SIZE = 16


@dataclass(frozen=True)
class StageInput:
    """The arguments of a stage: float32 arrays with one row for each sample."""

    latents: NDArray[np.float32]
    """z [N, dim], or w [N, layers, dim]."""
    condition: NDArray[np.float32] | None
    """Class weights [N, classes]; None for unconditional generators, and with w."""

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Self:
        condition = None if self.condition is None else self.condition[rows]
        return type(self)(self.latents[rows], condition)

    @classmethod
    def from_labels(cls, spec: GeneratorSpec, latents: Latents, labels: Sequence[int | None]) -> Self:
        """Build the input of a generator's first stage from latents [N, dim] and N class indices.

        Labels are ignored if `spec` has no classes. Otherwise, raises ValueError if a label is missing or out of range.
        """
        if not isinstance(spec.condition, ClassCondition):
            return cls(latents, None)
        return cls(latents, labels_to_weights(labels, len(spec.condition.names)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        conditions = [part.condition for part in parts if part.condition is not None]
        return cls(np.concatenate([part.latents for part in parts]), np.concatenate(conditions) if conditions else None)

    def padded_to(self, size: int) -> list[NDArray[np.float32]]:
        """Return latents, and class weights if there are any, padded with zeros to `size` rows."""
        return [_pad(array, size) for array in (self.latents, self.condition) if array is not None]


def labels_to_weights(labels: Sequence[int | NDArray[np.float32] | None], classes: int) -> NDArray[np.float32]:
    """Return class weights [N, classes] of N labels: a class index, or the weights of all classes [classes].

    Raises ValueError if a label is missing, or if an index is out of range.
    """
    weights = np.zeros((len(labels), classes), dtype=np.float32)
    for row, label in zip(weights, labels, strict=True):
        if label is None:
            raise ValueError("a conditional generator needs a label for each sample")
        if isinstance(label, np.ndarray):
            row[:] = label
        elif 0 <= label < classes:
            row[label] = 1.0
        else:
            raise ValueError(f"there is no class {label}; labels go from 0 to {classes - 1}")
    return weights


def _pad(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if len(values) == size:
        return values
    padded = np.zeros((size, *values.shape[1:]), dtype=np.float32)
    padded[: len(values)] = values
    return padded


class Stage(nn.Module):
    """One of a generator's functions as a module of its own, with the generator's parameters."""

    def __init__(self, generator: Generator, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.generator = generator
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs)


def stages(generator: Generator) -> list[nn.Module]:
    """Return the modules that are batched separately: `map` and `synthesize` of a two-stage generator, else itself."""
    if isinstance(generator, TwoStageGenerator):
        return [Stage(generator, generator.map), Stage(generator, generator.synthesize)]
    return [generator]


@torch.inference_mode()
def forward_pass(stage: nn.Module, inputs: StageInput, size: int) -> NDArray[np.float32]:
    """Run `stage` once on `inputs` (at most `size` rows), padded to `size` rows. Return its output [N, ...]."""
    torch.get_num_threads()  # makes a new thread use the configured number of threads, on which rounding depends
    device = next(stage.parameters()).device
    output: Tensor = stage(*(torch.from_numpy(array).to(device) for array in inputs.padded_to(size)))  # [size, ...]
    values: NDArray[np.float32] = output[: len(inputs)].float().cpu().numpy()
    return values


def run_stage(stage: nn.Module, inputs: StageInput) -> NDArray[np.float32]:
    """Run `stage` on any number of rows (1 or more), in passes of REFERENCE_BATCH_SIZE. Return its output [N, ...]."""
    size = REFERENCE_BATCH_SIZE
    return np.concatenate([forward_pass(stage, inputs[i : i + size], size) for i in range(0, len(inputs), size)])


def generate(generator: Generator, latents: Latents, labels: Sequence[int | None], truncation: float = 1.0) -> Samples:
    """Return samples [N, *shape] of latents [N, dim] and a class index for each row, as `generate_rows` does."""
    return generate_rows(generator, StageInput.from_labels(generator.spec, latents, labels), truncation)


def generate_rows(generator: Generator, inputs: StageInput, truncation: float = 1.0) -> Samples:
    """Return samples [N, *shape] of the generator's first input, N ≥ 1: the same bits that a served model gives.

    `truncation`: ψ, applied to w if the generator has it, else to z.
    """
    if not isinstance(generator, TwoStageGenerator):
        return run_stage(generator, StageInput(truncate(inputs.latents, truncation), inputs.condition))
    mapping, synthesis = stages(generator)
    w = run_stage(mapping, inputs)  # [N, layers, dim]
    return run_stage(synthesis, StageInput(truncate(w, truncation, generator.mean_w.cpu().numpy()), None))
