"""Evaluators: metrics of a set of samples against a reference of real ones. They do not know the generator."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor

from latentd.models.errors import LatentdError
from latentd.training.data.chunks import chunks
from latentd.training.evaluation import metrics


class SamplesNotFinite(LatentdError):
    """A sample has a value that is not a number, or infinite."""


@dataclass(frozen=True)
class EvaluationSet:
    """Samples that are read a chunk at a time, so that they need not be in memory together."""

    count: int
    shape: tuple[int, ...]
    """Of one sample."""
    read: Callable[[slice], tuple[Tensor, Tensor | None]]
    """Rows → samples [N, *shape], and their classes [N]: of real samples their labels, of generated ones those that
    were asked for. None if they have no classes."""
    is_real: bool = False
    """Whether the samples come from the data set; their features may then be cached."""

    @classmethod
    def of(cls, samples: Tensor, labels: Tensor | None = None) -> Self:
        """Return a set of samples [N, *shape] that are in memory, and of their classes [N] if they have any."""
        return cls(
            len(samples),
            tuple(samples.shape[1:]),
            lambda rows: (samples[rows], None if labels is None else labels[rows]),
        )

    def __len__(self) -> int:
        return self.count

    def chunks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield samples [N, *shape], a few at a time, and their classes [N] or None.

        Raises SamplesNotFinite.
        """
        for rows in chunks(self.count, self.shape):
            samples, labels = self.read(rows)
            if not samples.isfinite().all():
                raise SamplesNotFinite("some samples are not finite numbers, so they cannot be evaluated")
            yield samples, labels


class Evaluator(ABC):
    """Computes metrics of samples against a reference of real samples."""

    measured_on: str
    """A description of the features, for cards and captions."""
    num_samples: int
    """The size of the sets that it expects."""
    selection_metric: str
    """The metric by which the best generator is chosen; less is better."""

    @abstractmethod
    def metrics(self, samples: EvaluationSet) -> dict[str, float]:
        """Return all metrics by name. Raises SamplesNotFinite."""

    def quick_metrics(self, samples: EvaluationSet) -> dict[str, float]:
        """Return the metrics that are fast enough for use during training, including `selection_metric`."""
        return self.metrics(samples)

    def nearest_training(self, samples: Tensor) -> tuple[Tensor, Tensor] | None:
        """Find the nearest training sample that is not identical, to detect memorised data.

        Samples [N, *shape] → distances [N], nearest samples [N, *shape]. None if the data has no end to memorise.
        """
        return None

    @abstractmethod
    def real_samples(self, draw: int) -> EvaluationSet:
        """Return `num_samples` real samples outside the reference. Their metrics are the real-data baseline.

        The same `draw` gives the same samples.
        """


class MixtureEvaluator(Evaluator):
    """Metrics of points [N, 2] against a mixture of Gaussians with equal weights, as in VEEGAN and PacGAN.

    `modes`: modes with at least 20 of 2,500 samples within 3σ. `high_quality`: fraction of samples within 3σ of a mode
    (0.989 for the target itself). `reverse_kl`: KL divergence, in nats, of the modes' fractions of samples from equal
    fractions; each sample belongs to its nearest mode. `least_spread`, `most_spread`: of the modes that are found, the
    least and the greatest standard deviation of samples within 3σ, divided by that of a Gaussian cut off at 3σ.
    `frechet_distance`: of the coordinates. `divergence`, the selection metric: KL divergence, in nats, of the fractions
    of samples within σ, 2σ and 3σ of each mode, and beyond, from the target's. Lost modes, low quality and wrong spread
    all raise it.
    """

    measured_on = "coordinates"
    num_samples = 2500
    selection_metric = "divergence"
    _MIN_SAMPLES_OF_MODE: ClassVar[int] = 20
    _RADIUS: ClassVar[int] = 3  # in σ
    _BEYOND: ClassVar[float] = math.exp(-(_RADIUS**2) / 2)  # fraction of a 2-D Gaussian beyond the radius
    _TRUNCATED_STD: ClassVar[float] = math.sqrt(1 - _RADIUS**2 / 2 * _BEYOND / (1 - _BEYOND))  # per axis, for σ = 1

    def __init__(self, centers: Tensor, sigma: float) -> None:
        self._centers = centers.double()  # [modes, 2]
        self._sigma = sigma
        self._reference = self._draw(100_000, -1)

    def metrics(self, samples: EvaluationSet) -> dict[str, float]:
        points = torch.cat([points for points, _ in samples.chunks()]).double()
        modes = len(self._centers)
        distance, mode = metrics.nearest(points, self._centers)
        near = distance <= self._RADIUS * self._sigma
        found = torch.bincount(mode[near], minlength=modes) >= self._MIN_SAMPLES_OF_MODE
        target = self._TRUNCATED_STD * self._sigma
        spreads = [
            float((points[near & (mode == number)] - center).square().mean().sqrt()) / target
            for number, center in enumerate(self._centers)
            if found[number]
        ]
        return {
            "modes": float(found.sum()),
            "high_quality": float(near.double().mean()),
            "reverse_kl": metrics.kl_divergence(metrics.class_fractions(mode, modes), [1 / modes] * modes),
            "least_spread": min(spreads, default=0.0),
            "most_spread": max(spreads, default=0.0),
            "frechet_distance": metrics.frechet_distance(self._reference, points),
            "divergence": self._divergence(distance, mode),
        }

    def _divergence(self, distance: Tensor, mode: Tensor) -> float:
        """`distance` and `mode` [N] are of each sample's nearest mode. Cells: rings around each mode, and the rest."""
        rings = self._RADIUS
        ring = (distance / self._sigma).floor().clamp(max=rings).long()
        cell = torch.where(ring < rings, mode * rings + ring, len(self._centers) * rings)
        beyond = [math.exp(-(radius**2) / 2) for radius in range(rings + 1)]
        expected_of_mode = [(inner - outer) / len(self._centers) for inner, outer in pairwise(beyond)]
        expected = [*expected_of_mode * len(self._centers), beyond[-1]]
        return metrics.kl_divergence(metrics.class_fractions(cell, len(expected)), expected)

    def real_samples(self, draw: int) -> EvaluationSet:
        return EvaluationSet.of(self._draw(self.num_samples, draw))

    def _draw(self, count: int, draw: int) -> Tensor:
        random = torch.Generator().manual_seed(draw + 1)
        modes = torch.randint(len(self._centers), (count,), generator=random)
        return self._centers[modes] + self._sigma * torch.randn(count, 2, generator=random, dtype=torch.float64)
