"""The figures of images, on the features of a network."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentd.training.data.pixels import normalize
from latentd.training.evaluation import metrics
from latentd.training.evaluation.classifier import Classifier
from latentd.training.evaluation.evaluator import EvaluationSet, Evaluator
from latentd.training.evaluation.features import FeatureExtractor

_ROWS = 10_000
"""Training images that are numbers at a time."""
_THE_SAME = 1e-4
"""Largest distance of two images that are the same but for rounding."""


@dataclass(frozen=True)
class RealImages:
    """Bytes of pixels [N, C, H, W], and their classes [N] where they have any."""

    pixels: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice) -> "RealImages":
        return RealImages(self.pixels[rows], None if self.labels is None else self.labels[rows])

    def judged(self) -> EvaluationSet:
        """As a evaluator is shown them."""
        return EvaluationSet(normalize(self.pixels), self.labels, is_real=True)


class ImageEvaluator(Evaluator):
    """For images, on the features of a network; `train` is what was learnt from, which `reference` does not hold.

    `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`, `inception_score`;
    `nearest_training`: the median distance (root of the mean square a pixel, in [-1, 1]) to the nearest training image
    that is not the very same: where a generator has memorised, far smaller than that of real images. With a
    `classifier`, which knows the data's classes, also `least_class` and `most_class`, the smallest and the largest
    class's share, `coverage of …` each class, and for samples of known classes `label_accuracy`.
    """

    selection_metric = "frechet_distance"
    _COMPARED: ClassVar[int] = 500
    """Samples whose nearest training images are looked for."""

    def __init__(
        self,
        network: FeatureExtractor,
        reference: RealImages,
        train: RealImages,
        count: int,
        classifier: Classifier | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        self.measured_on = network.measured_on
        self.num_samples = min(count, len(reference), len(train))
        self._network = network
        self._classifier = classifier
        self._classes = classes
        self._reference = network.extract_real(normalize(reference.pixels))[0]
        self._reference_labels = reference.labels
        self._train = train

    def metrics(self, judged: EvaluationSet) -> dict[str, float]:
        features, probabilities = self._look(judged)
        nearest, _ = self.nearest_training(judged.samples[: self._COMPARED])
        return {
            **self._quick_metrics(judged, features, probabilities),
            "kernel_distance": metrics.kernel_distance(self._reference, features),
            "inception_score": metrics.inception_score(probabilities),
            "nearest_training": float(nearest.median()),
        }

    def quick_metrics(self, judged: EvaluationSet) -> dict[str, float]:
        return self._quick_metrics(judged, *self._look(judged))

    def nearest_training(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Distances are the root of the mean square a pixel, in [-1, 1]."""
        nearest = torch.full((len(samples),), math.inf, dtype=torch.float64)
        images = torch.zeros_like(samples)
        for rows in torch.split(self._train.pixels, _ROWS):
            candidates = normalize(rows)
            distances = torch.cdist(samples.flatten(1).double(), candidates.flatten(1).double())  # [N, rows]
            distances[distances < _THE_SAME] = math.inf
            found = distances.min(dim=1)
            nearer = found.values < nearest
            nearest = torch.where(nearer, found.values, nearest)
            images[nearer] = candidates[found.indices[nearer]]
        return nearest / math.sqrt(samples[0].numel()), images

    def real_samples(self, draw: int) -> EvaluationSet:
        if len(self._train) == self.num_samples:
            return self._train.judged()
        random = torch.Generator().manual_seed(draw)
        return self._train[torch.randperm(len(self._train), generator=random)[: self.num_samples]].judged()

    def _look(self, judged: EvaluationSet) -> tuple[Tensor, Tensor]:
        extract = self._network.extract_real if judged.is_real else self._network.extract
        return extract(judged.samples)

    def _quick_metrics(self, judged: EvaluationSet, features: Tensor, probabilities: Tensor) -> dict[str, float]:
        precision, recall = metrics.precision_recall(self._reference, features)
        density, covered = metrics.density_coverage(self._reference, features)
        return {
            "frechet_distance": metrics.frechet_distance(self._reference, features),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": _share(covered),
            **self._of_classes(judged, covered, probabilities),
        }

    def _of_classes(self, judged: EvaluationSet, covered: Tensor, probabilities: Tensor) -> dict[str, float]:
        """What depends on the classes; `covered` [reference] says which real images' balls hold a sample."""
        if self._classifier is None or self._reference_labels is None:
            return {}
        if self._classifier is not self._network:
            probabilities = self._classifier.extract(judged.samples)[1]
        classes = probabilities.argmax(dim=1)
        of_each = metrics.shares(classes, len(self._classes))
        figures = {"least_class": min(of_each), "most_class": max(of_each)}
        for number, name in enumerate(self._classes):
            of_class = self._reference_labels == number
            if of_class.any():
                figures[f"coverage of {name}"] = _share(covered[of_class])
        if judged.labels is not None:
            figures["label_accuracy"] = _share(classes == judged.labels)
        return figures


def _share(of: Tensor) -> float:
    return float(of.double().mean())
