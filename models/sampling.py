"""From latents to samples in forward passes of fixed sizes, so that a sample's bits never depend on its batch.

Libraries choose a kernel by the shape of the problem and so may round differently from one batch size to another;
within one shape a row does not depend on its neighbours. REFERENCE_BATCH_SIZE defines a sample's bits; another
size may be used where it was shown to give the same ones.
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
    """What a stage is called with, a row a sample, all float32."""

    latents: NDArray[np.float32]
    """Latents [N, dim], or w [N, layers, dim]."""
    condition: NDArray[np.float32] | None
    """Class weights [N, classes]; None for an unconditional generator, and beside w."""

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Self:
        condition = None if self.condition is None else self.condition[part]
        return type(self)(self.latents[part], condition)

    @classmethod
    def from_labels(cls, spec: GeneratorSpec, latents: Latents, labels: Sequence[int | None]) -> Self:
        """Latents [N, dim] and a class a row (None where `spec` has no classes)."""
        if not isinstance(spec.condition, ClassCondition):
            return cls(latents, None)
        classes = [label or 0 for label in labels]
        return cls(latents, np.eye(len(spec.condition.names), dtype=np.float32)[classes])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        conditions = [part.condition for part in parts if part.condition is not None]
        return cls(np.concatenate([part.latents for part in parts]), np.concatenate(conditions) if conditions else None)

    def padded_to(self, size: int) -> list[NDArray[np.float32]]:
        """Latents, and class weights where there are any, with zeros appended up to `size` rows."""
        return [_pad(each, size) for each in (self.latents, self.condition) if each is not None]


def _pad(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if len(values) == size:
        return values
    padded = np.zeros((size, *values.shape[1:]), dtype=np.float32)
    padded[: len(values)] = values
    return padded


class Stage(nn.Module):
    """One of a generator's functions as a module: what is computed in one forward pass."""

    def __init__(self, generator: Generator, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.generator = generator
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs)


def stages(generator: Generator) -> list[nn.Module]:
    """The generator itself, or `map` and `synthesize` where it has two stages: each is run in passes of its own."""
    if isinstance(generator, TwoStageGenerator):
        return [Stage(generator, generator.map), Stage(generator, generator.synthesize)]
    return [generator]


@torch.inference_mode()
def forward_pass(stage: nn.Module, rows: StageInput, size: int) -> NDArray[np.float32]:
    """One forward pass of `size` rows, of which `rows` (at most `size`) are wanted → what `stage` gives [n, …]."""
    torch.get_num_threads()  # a new thread has the number that was set, and rounds as others do, once it has asked
    device = next(stage.parameters()).device
    output: Tensor = stage(*(torch.from_numpy(each).to(device) for each in rows.padded_to(size)))  # [size, …]
    values: NDArray[np.float32] = output[: len(rows)].float().cpu().numpy()
    return values


def run_stage(stage: nn.Module, rows: StageInput) -> NDArray[np.float32]:
    """Any number of `rows` ≥ 1 in passes of REFERENCE_BATCH_SIZE."""
    starts = range(0, len(rows), REFERENCE_BATCH_SIZE)
    return np.concatenate(
        [forward_pass(stage, rows[i : i + REFERENCE_BATCH_SIZE], REFERENCE_BATCH_SIZE) for i in starts]
    )


def generate(generator: Generator, latents: Latents, labels: Sequence[int | None], truncation: float = 1.0) -> Samples:
    """Return samples [N, *shape] of latents [N, dim] and a class index for each row, as `generate_rows` does."""
    return generate_rows(generator, StageInput.from_labels(generator.spec, latents, labels), truncation)


def generate_rows(generator: Generator, rows: StageInput, truncation: float = 1.0) -> Samples:
    """Return samples [N, *shape] of the generator's first input, N ≥ 1: the same bits that a served model gives.

    `truncation`: ψ, applied to w if the generator has it, else to z.
    """
    if not isinstance(generator, TwoStageGenerator):
        return run_stage(generator, StageInput(truncate(rows.latents, truncation), rows.condition))
    mapping, synthesis = stages(generator)
    w = run_stage(mapping, rows)  # [N, layers, dim]
    return run_stage(synthesis, StageInput(truncate(w, truncation, generator.mean_w.cpu().numpy()), None))
