"""Latents of a generator and the samples that they give, from which directions are computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from latentd.models.directions import add_offset, direction_space
from latentd.models.family import Generator, TwoStageGenerator
from latentd.models.interpolation import Vector
from latentd.models.latents import seeds_to_latents, truncate
from latentd.models.outputs.base import Samples
from latentd.models.sampling import StageInput, run_stage, stages

FloatArray = NDArray[np.float64]

_UNIFORM_STD = 1 / math.sqrt(3)
"""Of the uniform distribution on [-1, 1]."""


@dataclass(frozen=True)
class LatentDataset:
    """Latents of one generator, in the space of its directions: w of two-stage generators, else z."""

    generator: Generator
    stage_input: StageInput
    """The input of the last stage: z [N, dim] and classes, or w [N, layers, dim]."""
    labels: NDArray[np.int64] | None
    """[N]; None for a generator without classes."""

    @classmethod
    def from_seeds(cls, generator: Generator, seeds: Sequence[int], psi: float = 1.0) -> "LatentDataset":
        """Return the latents of `seeds`, truncated to `psi`."""
        latents, seed_labels = seeds_to_latents(generator.spec, seeds)
        known = [label for label in seed_labels if label is not None]
        labels = np.array(known) if known else None
        z = StageInput.from_labels(generator.spec, latents, seed_labels)
        if not isinstance(generator, TwoStageGenerator):
            return cls(generator, StageInput(truncate(z.latents, psi), z.condition), labels)
        mapping, _ = stages(generator)
        mean = generator.mean_w.numpy()
        w = run_stage(mapping, z)
        return cls(generator, StageInput(truncate(w - mean, psi) + mean, None), labels)

    def __len__(self) -> int:
        return len(self.stage_input)

    def __getitem__(self, rows: slice) -> "LatentDataset":
        return LatentDataset(self.generator, self.stage_input[rows], None if self.labels is None else self.labels[rows])

    def shifted(self, vector: Vector, amounts: Sequence[float]) -> "LatentDataset":
        """Return all latents plus the first amount of `vector` [dim], then all plus the second, and so on."""
        z, condition = self.stage_input.latents, self.stage_input.condition
        parts = [StageInput(add_offset(z, amount * vector.astype(np.float64)), condition) for amount in amounts]
        labels = None if self.labels is None else np.tile(self.labels, len(parts))
        return LatentDataset(self.generator, StageInput.concatenate(parts), labels)

    @cached_property
    def latents(self) -> FloatArray:
        """Return z or w as [N, dim]. w is averaged over the layers."""
        latents = self.stage_input.latents.astype(np.float64)
        return latents if latents.ndim == 2 else latents.mean(axis=1)

    @property
    def synthesis(self) -> torch.nn.Module:
        """Return the last stage, which turns `stage_input` into samples."""
        return stages(self.generator)[-1]

    @cached_property
    def samples(self) -> Samples:
        """Return the samples [N, *shape], the same as the service returns."""
        return run_stage(self.synthesis, self.stage_input)

    def std_along(self, unit: FloatArray) -> float:
        """Return the standard deviation of latents along a unit vector [dim]."""
        if direction_space(self.generator.spec)[0] == "w":
            return float((self.latents @ unit).std())
        return 1.0 if self.generator.spec.input.distribution == "normal" else _UNIFORM_STD

    def centred(self, values: NDArray[np.floating], fitted: int | None = None) -> FloatArray:
        """Subtract the mean of its class from each of `values` [N, ...]; without classes, the mean of all.

        Means are over the first `fitted` rows if that is given, but over all rows of a class that has none there.
        """
        centred = values.astype(np.float64)
        for of_class in self._class_masks:
            (rows,) = np.nonzero(of_class)
            first = rows if fitted is None else rows[rows < fitted]
            centred[rows] -= centred[first if len(first) else rows].mean(axis=0)
        return centred

    @cached_property
    def _class_masks(self) -> list[NDArray[np.bool_]]:
        if self.labels is None:
            return [np.ones(len(self), dtype=bool)]
        return [self.labels == label for label in np.unique(self.labels)]
