"""Latents of a generator and the samples that they give, from which directions are computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latentd.models.directions import add_offset, require_direction_space
from latentd.models.family import Generator, Stage
from latentd.models.inputs.base import DirectionSpace
from latentd.models.interpolation import Vector
from latentd.models.latents import seeds_to_rows
from latentd.models.outputs.base import Samples
from latentd.models.sampling import REFERENCE_BATCH_SIZE, run_stages, truncated_input
from latentd.models.stage_input import StageInput
from latentd.training.data.source import OnProgress, TaskProgress

FloatArray = NDArray[np.float64]
_CHUNK = 16 * REFERENCE_BATCH_SIZE
"""Samples between two reports of progress."""


@dataclass(frozen=True)
class LatentDataset:
    """Latents of one generator, in the space of its directions: w of two-stage generators, else z."""

    generator: Generator
    stage_input: StageInput
    """z [N, dim] or w [N, layers, dim], and the condition."""
    labels: NDArray[np.int64] | None
    """[N]; None for a generator without classes."""
    on_progress: OnProgress = lambda _: None
    """Told how many samples are computed."""

    @classmethod
    def from_seeds(
        cls,
        generator: Generator,
        seeds: Sequence[int],
        psi: float = 1.0,
        on_progress: OnProgress = lambda _: None,
    ) -> "LatentDataset":
        """Return the latents of `seeds`, truncated to `psi`."""
        rows = seeds_to_rows(generator.spec, seeds)
        _, stage_input = truncated_input(generator, rows, psi)
        return cls(generator, stage_input, generator.spec.condition.labels(rows.condition), on_progress)

    def __len__(self) -> int:
        return len(self.stage_input)

    def __getitem__(self, rows: slice) -> "LatentDataset":
        return LatentDataset(self.generator, self.stage_input[rows], None if self.labels is None else self.labels[rows])

    def shifted(self, vector: Vector, amounts: Sequence[float]) -> "LatentDataset":
        """Return all latents plus the first amount of `vector` [dim], then all plus the second, and so on."""
        offsets = [amount * vector.astype(np.float64) for amount in amounts]
        parts = [replace(self.stage_input, inputs=add_offset(self.stage_input.inputs, each)) for each in offsets]
        labels = None if self.labels is None else np.tile(self.labels, len(parts))
        return LatentDataset(self.generator, StageInput.concatenate(parts), labels)

    @cached_property
    def latents(self) -> FloatArray:
        """Return z or w as [N, dim]. w is averaged over the layers."""
        latents = self.stage_input.inputs.astype(np.float64)
        return latents if latents.ndim == 2 else latents.mean(axis=1)

    @cached_property
    def stages(self) -> Sequence[Stage]:
        """Return the stages that turn `stage_input` into samples."""
        stages = self.generator.stages
        return stages[[stage.takes.space for stage in stages].index(self.space.space) :]

    @cached_property
    def samples(self) -> Samples:
        """Return the samples [N, *shape], the same as the service returns."""
        parts = []
        for first in range(0, len(self), _CHUNK):
            self.on_progress(TaskProgress("computing samples", first, len(self), "samples"))
            parts.append(run_stages(self.stages, self.stage_input[first : first + _CHUNK]))
        self.on_progress(TaskProgress("computing samples", len(self), len(self), "samples"))
        return np.concatenate(parts)

    @property
    def space(self) -> DirectionSpace:
        """The space of the latents and their dimension. Raises ValueError if the generator has no directions."""
        return require_direction_space(self.generator.spec)

    def std_along(self, unit: FloatArray) -> float:
        """Return the standard deviation of latents along a unit vector [dim]."""
        if self.space.space == "w":
            return float((self.latents @ unit).std())
        return self.generator.spec.input.deviation

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
