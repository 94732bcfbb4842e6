"""Mixtures of 2-D Gaussians, sampled during training.

`ring` and `grid` are the settings of VEEGAN (https://arxiv.org/abs/1705.07761) and PacGAN
(https://arxiv.org/abs/1712.04086).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from latentd.models.card import DataCard
from latentd.models.outputs.base import OutputKind
from latentd.models.outputs.points import PointsOutput
from latentd.training.data.source import DataArgumentError, DataSettings, DataSource, OnProgress, SelectRows
from latentd.training.evaluation.evaluator import Evaluator, MixtureEvaluator
from latentd.training.evaluation.features import LoadExtractor
from latentd.training.randomness import generator_for


@dataclass(frozen=True)
class _Modes:
    centers: tuple[tuple[float, float], ...]
    sigma: float


_MIXTURES = {
    "gaussian": _Modes(((2.0, -1.0),), 0.5),
    "ring": _Modes(tuple((math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)), 0.01),
    "grid": _Modes(tuple((2.0 * x, 2.0 * y) for x in range(-2, 3) for y in range(-2, 3)), 0.05),
}


class GaussianMixture(DataSettings):
    """A mixture of equally likely Gaussians on the plane.

    `gaussian`: one at (2, -1), σ = 0.5. `ring`: 8 on a circle of radius 1, σ = 0.01. `grid`: 5 x 5 at -4, -2, 0, 2, 4,
    σ = 0.05.
    """

    name: Literal["gaussian", "ring", "grid"]

    @property
    def output(self) -> OutputKind:
        return PointsOutput(dim=2)

    def load(self, path: Path | None, on_progress: OnProgress) -> "MixtureSource":
        if path is not None:
            raise DataArgumentError(f"{self.name} is generated, not read from files: leave out `data` or `--data`")
        return MixtureSource(self.name)

    def evaluator(
        self, path: Path | None, on_progress: OnProgress, load_extractor: LoadExtractor | None = None
    ) -> Evaluator:
        if load_extractor is not None:
            raise DataArgumentError(
                f"{self.name} is evaluated on its coordinates: leave out `features` or `--features`"
            )
        return self.load(path, on_progress).evaluator()


class MixtureSource(DataSource):
    """Batches of points [N, 2], float32, without end and without labels."""

    def __init__(self, name: str) -> None:
        modes = _MIXTURES[name]
        self.centers = torch.tensor(modes.centers)  # [modes, 2]
        self.sigma = modes.sigma
        self.card = DataCard(name=name, size=None, sha256=None, licence="CC0-1.0")

    def evaluator(self) -> Evaluator:
        return MixtureEvaluator(self.centers, self.sigma)

    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch in count(first):
            generator = generator_for(seed, "batch", batch)
            modes = torch.randint(len(self.centers), (batch_size,), generator=generator)
            noise = torch.randn(batch_size, 2, generator=generator)
            yield select(self.centers[modes] + self.sigma * noise), None


DATA_SETS = (GaussianMixture,)
