"""Samples from latents, in forward passes of fixed sizes, so that a sample's bits never depend on its batch.

Libraries choose a kernel by the shape of the problem, so results may differ in rounding between batch sizes. Within one
shape, a row does not depend on its neighbors. A pass of REFERENCE_BATCH_SIZE defines a sample's bits; other sizes may
be used if a test on the device has shown that they give the same bits.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentd.models.family import Control, Generator, Stage
from latentd.models.latents import truncate
from latentd.models.outputs.base import Samples
from latentd.models.stage_input import Rows, StageInput

REFERENCE_BATCH_SIZE = 16

_CPU = torch.device("cpu")
"""The device of stages without parameters."""


@torch.inference_mode()
def forward_pass(stage: nn.Module, inputs: StageInput, size: int) -> NDArray[np.float32]:
    """Run `stage` once on `inputs` (at most `size` rows), padded to `size` rows. Return its output [N, ...]."""
    torch.get_num_threads()  # makes a new thread use the configured number of threads, on which rounding depends
    device = next((tensor.device for tensor in chain(stage.parameters(), stage.buffers())), _CPU)
    output: Tensor = stage(*(torch.from_numpy(array).to(device) for array in inputs.padded_to(size)))  # [size, ...]
    values: NDArray[np.float32] = output[: len(inputs)].float().cpu().numpy()
    return values


def run_stage(stage: nn.Module, inputs: StageInput) -> NDArray[np.float32]:
    """Run `stage` on any number of rows (1 or more), in passes of REFERENCE_BATCH_SIZE. Return its output [N, ...]."""
    size = REFERENCE_BATCH_SIZE
    return np.concatenate([forward_pass(stage, inputs[i : i + size], size) for i in range(0, len(inputs), size)])


def run_stages(stages: Sequence[Stage], rows: StageInput) -> Rows:
    """Run `stages` one after another. `rows`: the input of the first one, and the condition and controls of all."""
    for stage in stages:
        rows = replace(rows, inputs=run_stage(stage, stage.takes.select(rows)))
    return rows.inputs


def generate_rows(generator: Generator, rows: StageInput, truncation: float = 1.0) -> Samples:
    """Return the samples [N, *shape] of N rows (1 or more) of the generator's input, with the bits of the service.

    `truncation`: ψ, applied in the last of the input's spaces: to w if the generator has it, else to z. Without
    `rows.controls`, the generator's controls have their defaults.
    """
    return run_stages(*truncated_input(generator, rows, truncation))


def truncated_input(
    generator: Generator, rows: StageInput, truncation: float = 1.0
) -> tuple[Sequence[Stage], StageInput]:
    """Run the stages before the space in which rows are truncated, and truncate them.

    Return the other stages and their input.
    """
    if rows.controls is None:
        rows = replace(rows, controls=default_controls(generator.controls, len(rows)))
    stages = generator.stages
    spaces = [stage.takes.space for stage in stages]
    edit_space = generator.spec.input.edit_space
    first = 0 if edit_space is None else spaces.index(edit_space)
    values = run_stages(stages[:first], rows)
    return stages[first:], replace(rows, inputs=truncate(values, truncation, stages[first].takes.mean))


def default_controls(controls: Sequence[Control], count: int) -> Rows | None:
    """Return the controls' defaults, [count, controls]; None if there are no controls."""
    if not controls:
        return None
    return np.tile(np.array([each.default for each in controls], dtype=np.float32), (count, 1))
