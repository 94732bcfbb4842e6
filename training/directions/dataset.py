"""A generator as it is studied: many latents, and what it makes of them."""

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

Wide = NDArray[np.float64]

_UNIFORM_DEVIATION = 1 / math.sqrt(3)
"""Of U(-1, 1)."""


@dataclass(frozen=True)
class Studied:
    """Seeds of one generator, laid out where its directions lie: in z, or in w where it has two stages."""

    generator: Generator
    rows: StageInput
    """For the synthesis: latents [N, dim] with classes, or w [N, layers, dim]."""
    labels: NDArray[np.int64] | None
    """[N]; None where the generator has no classes."""

    @classmethod
    def of(cls, generator: Generator, seeds: Sequence[int], psi: float = 1.0) -> "Studied":
        """The latents of `seeds`, truncated to `psi`."""
        latents, labels = seeds_to_latents(generator.spec, seeds)
        known = [label for label in labels if label is not None]
        classes = np.array(known) if known else None
        rows = StageInput.from_labels(generator.spec, latents, labels)
        if not isinstance(generator, TwoStageGenerator):
            return cls(generator, StageInput(truncate(rows.latents, psi), rows.condition), classes)
        mapping, _ = stages(generator)
        mean = generator.mean_w.numpy()
        w = run_stage(mapping, rows)
        return cls(generator, StageInput(truncate(w - mean, psi) + mean, None), classes)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "Studied":
        return Studied(self.generator, self.rows[part], None if self.labels is None else self.labels[part])

    def moved(self, vector: Vector, amounts: Sequence[float]) -> "Studied":
        """All of these by the first of the amounts of `vector` [dim], then all by the second, and so on."""
        wide = vector.astype(np.float64)
        parts = [StageInput(add_offset(self.rows.latents, amount * wide), self.rows.condition) for amount in amounts]
        labels = None if self.labels is None else np.tile(self.labels, len(parts))
        return Studied(self.generator, StageInput.concatenate(parts), labels)

    @cached_property
    def places(self) -> Wide:
        """[N, dim]; of w the mean over the layers."""
        places = self.rows.latents.astype(np.float64)
        return places if places.ndim == 2 else places.mean(axis=1)

    @property
    def synthesis(self) -> torch.nn.Module:
        """What makes samples of `rows`."""
        return stages(self.generator)[-1]

    @cached_property
    def samples(self) -> Samples:
        """[N, *shape], as they would be served."""
        return run_stage(self.synthesis, self.rows)

    def deviation(self, unit: Wide) -> float:
        """Standard deviation of latents along a unit vector [dim]."""
        if direction_space(self.generator.spec)[0] == "w":
            return float((self.places @ unit).std())
        return 1.0 if self.generator.spec.input.distribution == "normal" else _UNIFORM_DEVIATION

    def within_classes(self, values: NDArray[np.floating], known: int | None = None) -> Wide:
        """Values [N, ...] less the mean of their class, or of all where there are no classes.

        Means are of the first `known` values, if that is given; a class that has none of them keeps its own.
        """
        centred = values.astype(np.float64)
        for of_class in self._classes:
            (rows,) = np.nonzero(of_class)
            first = rows if known is None else rows[rows < known]
            centred[rows] -= centred[first if len(first) else rows].mean(axis=0)
        return centred

    @cached_property
    def _classes(self) -> list[NDArray[np.bool_]]:
        if self.labels is None:
            return [np.ones(len(self), dtype=bool)]
        return [self.labels == label for label in np.unique(self.labels)]
