"""What a set of samples is held against: a figure for each thing one wants to know, and the same of real samples.

One class a kind of data. A yardstick knows no generator: it is given samples.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from training.evaluation import metrics
from training.evaluation.classifier import Classifier
from training.evaluation.features import FeatureNetwork


@dataclass(frozen=True)
class Judged:
    """Samples [N, *shape] and the classes [N] that they have or were asked for, where there are any."""

    samples: Tensor
    labels: Tensor | None = None
    is_real: bool = False
    """Whether these are the data's own, which are judged again and again."""


class Yardstick(ABC):
    """Figures of samples, and of as many real ones."""

    measured_on: str
    """Which features, in words."""
    count: int
    """How many samples it wants."""

    @abstractmethod
    def figures(self, judged: Judged) -> dict[str, float]:
        """Name → figure."""

    @abstractmethod
    def real(self, draw: int) -> Judged:
        """As many real samples that the figures' reference does not hold: their figures are the floor."""


class MixtureYardstick(Yardstick):
    """For mixtures of Gaussians, judged as VEEGAN and PacGAN do.

    `modes`: how many have at least 20 of 2,500 samples within 3σ. `high_quality`: share of samples within 3σ of a mode
    (of the target itself 0.989). `reverse_kl`: of the modes' shares, each sample counted at its nearest, against equal
    ones, in nats. `least_spread`, `most_spread`: standard deviation of the samples within 3σ of a mode over that of a
    normal distribution cut off there, at the modes where it is least and most. `frechet_distance`: on the coordinates.
    """

    measured_on = "coordinates"
    count = 2500
    _FOUND_AT: ClassVar[int] = 20
    _NEAR: ClassVar[float] = 3.0
    _CUT: ClassVar[float] = math.exp(-(_NEAR**2) / 2)  # the share of a normal distribution on the plane beyond 3σ
    _SPREAD: ClassVar[float] = math.sqrt(1 - _NEAR**2 / 2 * _CUT / (1 - _CUT))  # of what is left, on each axis

    def __init__(self, centers: Tensor, sigma: float) -> None:
        self._centers = centers.double()
        self._sigma = sigma
        self._reference = self._draw(100_000, -1)

    def figures(self, judged: Judged) -> dict[str, float]:
        samples = judged.samples.double()
        distance, mode = metrics.nearest(samples, self._centers)
        near = distance <= self._NEAR * self._sigma
        found = torch.bincount(mode[near], minlength=len(self._centers)) >= self._FOUND_AT
        spreads = [
            float((samples[near & (mode == number)] - center).square().mean().sqrt()) / (self._SPREAD * self._sigma)
            for number, center in enumerate(self._centers)
            if found[number]
        ]
        return {
            "modes": float(found.sum()),
            "high_quality": float(near.double().mean()),
            "reverse_kl": metrics.reverse_kl(metrics.shares(mode, len(self._centers))),
            "least_spread": min(spreads, default=0.0),
            "most_spread": max(spreads, default=0.0),
            "frechet_distance": metrics.frechet_distance(self._reference, samples),
        }

    def real(self, draw: int) -> Judged:
        return Judged(self._draw(self.count, draw))

    def _draw(self, count: int, draw: int) -> Tensor:
        random = torch.Generator().manual_seed(draw + 1)
        chosen = torch.randint(len(self._centers), (count,), generator=random)
        return self._centers[chosen] + self._sigma * torch.randn(count, 2, generator=random, dtype=torch.float64)


class ImageYardstick(Yardstick):
    """For images, on the features of a network; `others` are real ones that `reference` does not hold.

    `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`, `inception_score`; with a
    `classifier`, which knows the data's classes, also the smallest and the largest class's share, and for samples of
    known classes `label_accuracy`.
    """

    count = 10_000

    def __init__(
        self, network: FeatureNetwork, reference: Tensor, others: Judged, classifier: Classifier | None = None
    ) -> None:
        self.measured_on = network.measured_on
        self.count = min(self.count, len(reference), len(others.samples))
        self._network = network
        self._classifier = classifier
        self._reference = network.look_at_real(reference)[0]
        self._others = replace(others, is_real=True)

    def figures(self, judged: Judged) -> dict[str, float]:
        look = self._network.look_at_real if judged.is_real else self._network.look
        features, probabilities = look(judged.samples)
        precision, recall = metrics.precision_recall(self._reference, features)
        density, coverage = metrics.density_coverage(self._reference, features)
        figures = {
            "frechet_distance": metrics.frechet_distance(self._reference, features),
            "kernel_distance": metrics.kernel_distance(self._reference, features),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
            "inception_score": metrics.inception_score(probabilities),
        }
        if self._classifier is not None:
            if self._classifier is not self._network:
                probabilities = self._classifier.look(judged.samples)[1]
            classes = probabilities.argmax(dim=1)
            of_each = metrics.shares(classes, probabilities.shape[1])
            figures |= {"least_class": min(of_each), "most_class": max(of_each)}
            if judged.labels is not None:
                figures["label_accuracy"] = float((classes == judged.labels).double().mean())
        return figures

    def real(self, draw: int) -> Judged:
        if len(self._others.samples) == self.count:
            return self._others
        random = torch.Generator().manual_seed(draw)
        chosen = torch.randperm(len(self._others.samples), generator=random)[: self.count]
        labels = self._others.labels
        return Judged(self._others.samples[chosen], None if labels is None else labels[chosen], is_real=True)
