"""What a set of samples is held against: a figure for each thing one wants to know, and the same of real samples.

One class a kind of data. A evaluator knows no generator: it is given samples.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from latentd.training.evaluation import metrics


@dataclass(frozen=True)
class EvaluationSet:
    """Samples [N, *shape] and the classes [N] that they have or were asked for, where there are any."""

    samples: Tensor
    labels: Tensor | None = None
    is_real: bool = False
    """Whether these are the data's own, which are judged again and again."""


class Evaluator(ABC):
    """Figures of samples, and of as many real ones."""

    measured_on: str
    """Which features, in words."""
    num_samples: int
    """How many samples it wants."""
    selection_metric: str
    """The figure by which the best of several generators is chosen; less is better."""

    @abstractmethod
    def metrics(self, judged: EvaluationSet) -> dict[str, float]:
        """Name → figure."""

    def quick_metrics(self, judged: EvaluationSet) -> dict[str, float]:
        """Those that take little time, `chosen_by` among them: what is looked at while a generator learns."""
        return self.metrics(judged)

    def nearest_training(self, samples: Tensor) -> tuple[Tensor, Tensor] | None:
        """Samples [N, *shape] → distances [N] to the nearest training samples that are not the same; these.

        None where nothing is learnt by heart, because the data is drawn without end.
        """
        return None

    @abstractmethod
    def real_samples(self, draw: int) -> EvaluationSet:
        """As many real samples that the figures' reference does not hold: their figures are the floor."""


class MixtureEvaluator(Evaluator):
    """For mixtures of Gaussians, judged as VEEGAN and PacGAN do.

    `modes`: how many have at least 20 of 2,500 samples within 3σ. `high_quality`: share of samples within 3σ of a mode
    (of the target itself 0.989). `reverse_kl`: of the modes' shares, each sample counted at its nearest, against equal
    ones, in nats. `least_spread`, `most_spread`: standard deviation of the samples within 3σ of a mode over that of a
    normal distribution cut off there, at the modes where it is least and most. `frechet_distance`: on the coordinates.
    `divergence`, by which generators are chosen: KL of the shares of samples within σ, 2σ and 3σ of each mode, and
    beyond, against the target's, in nats: of lost modes, low quality and wrong spread at once.
    """

    measured_on = "coordinates"
    num_samples = 2500
    selection_metric = "divergence"
    _FOUND_AT: ClassVar[int] = 20
    _NEAR: ClassVar[int] = 3
    _CUT: ClassVar[float] = math.exp(-(_NEAR**2) / 2)  # the share of a normal distribution on the plane beyond 3σ
    _SPREAD: ClassVar[float] = math.sqrt(1 - _NEAR**2 / 2 * _CUT / (1 - _CUT))  # of what is left, on each axis

    def __init__(self, centers: Tensor, sigma: float) -> None:
        self._centers = centers.double()
        self._sigma = sigma
        self._reference = self._draw(100_000, -1)

    def metrics(self, judged: EvaluationSet) -> dict[str, float]:
        samples, modes = judged.samples.double(), len(self._centers)
        distance, mode = metrics.nearest(samples, self._centers)
        near = distance <= self._NEAR * self._sigma
        found = torch.bincount(mode[near], minlength=modes) >= self._FOUND_AT
        spreads = [
            float((samples[near & (mode == number)] - center).square().mean().sqrt()) / (self._SPREAD * self._sigma)
            for number, center in enumerate(self._centers)
            if found[number]
        ]
        return {
            "modes": float(found.sum()),
            "high_quality": float(near.double().mean()),
            "reverse_kl": metrics.reverse_kl(metrics.shares(mode, modes), [1 / modes] * modes),
            "least_spread": min(spreads, default=0.0),
            "most_spread": max(spreads, default=0.0),
            "frechet_distance": metrics.frechet_distance(self._reference, samples),
            "divergence": self._divergence(distance, mode),
        }

    def _divergence(self, distance: Tensor, mode: Tensor) -> float:
        """Of samples that lie so far from their nearest mode."""
        rings = self._NEAR
        ring = (distance / self._sigma).floor().clamp(max=rings).long()
        cell = torch.where(ring < rings, mode * rings + ring, len(self._centers) * rings)
        beyond = [math.exp(-(radius**2) / 2) for radius in range(rings + 1)]
        of_a_mode = [(inner - outer) / len(self._centers) for inner, outer in pairwise(beyond)]
        expected = [*of_a_mode * len(self._centers), beyond[-1]]
        return metrics.reverse_kl(metrics.shares(cell, len(expected)), expected)

    def real_samples(self, draw: int) -> EvaluationSet:
        return EvaluationSet(self._draw(self.num_samples, draw))

    def _draw(self, count: int, draw: int) -> Tensor:
        random = torch.Generator().manual_seed(draw + 1)
        chosen = torch.randint(len(self._centers), (count,), generator=random)
        return self._centers[chosen] + self._sigma * torch.randn(count, 2, generator=random, dtype=torch.float64)
