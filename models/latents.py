"""From an integer seed to a generator's input, and to its condition if the request does not name one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentd.models.seeds import random_state
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows, StageInput


class DrawnRow(NamedTuple):
    """An input and a condition drawn from one seed."""

    input: Rows
    """[*spec.input.shape], float32."""
    condition: Rows
    """[spec.condition.size], float32."""


def seed_to_row(spec: GeneratorSpec, seed: int) -> DrawnRow:
    """Return the input of `seed`, and the condition that it names if a request names none.

    The condition is drawn after the input, from the same stream. Raises ValueError if the seed is out of range.
    """
    stream = random_state(seed)
    return DrawnRow(spec.input.draw(stream), spec.condition.draw(stream))


def seeds_to_rows(spec: GeneratorSpec, seeds: Sequence[int]) -> StageInput:
    """Return the first stage's rows, one for each seed. Each row is what `seed_to_row` gives for its seed."""
    draws = [seed_to_row(spec, seed) for seed in seeds]
    condition = np.stack([draw.condition for draw in draws]) if spec.condition.size else None
    return StageInput(np.stack([draw.input for draw in draws]), condition)


def truncate(rows: Rows, psi: float, mean: Rows | None = None) -> Rows:
    """Scale the rows' distance from `mean` (default: the origin, which is the mean of z) by ψ; 1 changes nothing.

    A smaller ψ trades variety for fidelity (Karras et al. 2019, https://arxiv.org/abs/1812.04948, appendix B).
    """
    if psi == 1.0:
        return rows
    return rows * np.float32(psi) if mean is None else (rows - mean) * np.float32(psi) + mean
