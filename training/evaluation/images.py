"""Metrics of images, computed on the features of a network."""

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

_TRAIN_ROWS = 10_000
"""Training images held as floating-point numbers at once."""
_IDENTICAL = 1e-4
"""Images at a smaller distance are identical but for rounding."""


@dataclass(frozen=True)
class RealImages:
    """Images [N, C, H, W] as bytes, and their classes [N] if they have any."""

    pixels: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor | slice) -> "RealImages":
        return RealImages(self.pixels[rows], None if self.labels is None else self.labels[rows])

    def evaluation_set(self) -> EvaluationSet:
        """Return the images as floating-point numbers in [-1, 1]."""
        return EvaluationSet(normalize(self.pixels), self.labels, is_real=True)


class ImageEvaluator(Evaluator):
    """Metrics of images on the features of `extractor`. `reference` must not contain images of `train`.

    All: `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`, `inception_score`, and
    `nearest_training`: the median distance to the nearest training image (see the method). It is much smaller than that
    of real images if the generator has memorised its data.

    With a `classifier` that knows the `classes` of the data, also `least_class` and `most_class`: the fractions of the
    rarest and of the most frequent class; `coverage of NAME` of each class; and `label_accuracy` if samples have
    labels.
    """

    selection_metric = "frechet_distance"
    _NEAREST_SAMPLES: ClassVar[int] = 500
    """Samples for which the nearest training image is searched."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        reference: RealImages,
        train: RealImages,
        num_samples: int,
        classifier: Classifier | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        self.measured_on = extractor.measured_on
        self.num_samples = min(num_samples, len(reference), len(train))
        self._extractor = extractor
        self._classifier = classifier
        self._classes = classes
        self._reference, _ = extractor.extract_real(normalize(reference.pixels))
        self._reference_labels = reference.labels
        self._train = train

    def metrics(self, samples: EvaluationSet) -> dict[str, float]:
        features, probabilities = self._extract(samples)
        nearest, _ = self.nearest_training(samples.samples[: self._NEAREST_SAMPLES])
        return {
            **self._quick_metrics(samples, features, probabilities),
            "kernel_distance": metrics.kernel_distance(self._reference, features),
            "inception_score": metrics.inception_score(probabilities),
            "nearest_training": float(nearest.median()),
        }

    def quick_metrics(self, samples: EvaluationSet) -> dict[str, float]:
        return self._quick_metrics(samples, *self._extract(samples))

    def nearest_training(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Distances are root mean square differences of pixels, for images in [-1, 1]."""
        nearest = torch.full((len(samples),), math.inf, dtype=torch.float64)
        images = torch.zeros_like(samples)
        for rows in torch.split(self._train.pixels, _TRAIN_ROWS):
            candidates = normalize(rows)
            distances = torch.cdist(samples.flatten(1).double(), candidates.flatten(1).double())  # [N, rows]
            distances[distances < _IDENTICAL] = math.inf
            found = distances.min(dim=1)
            nearer = found.values < nearest
            nearest = torch.where(nearer, found.values, nearest)
            images[nearer] = candidates[found.indices[nearer]]
        return nearest / math.sqrt(samples[0].numel()), images

    def real_samples(self, draw: int) -> EvaluationSet:
        if len(self._train) == self.num_samples:
            return self._train.evaluation_set()
        random = torch.Generator().manual_seed(draw)
        return self._train[torch.randperm(len(self._train), generator=random)[: self.num_samples]].evaluation_set()

    def _extract(self, samples: EvaluationSet) -> tuple[Tensor, Tensor]:
        extract = self._extractor.extract_real if samples.is_real else self._extractor.extract
        return extract(samples.samples)

    def _quick_metrics(self, samples: EvaluationSet, features: Tensor, probabilities: Tensor) -> dict[str, float]:
        precision, recall = metrics.precision_recall(self._reference, features)
        density, covered = metrics.density_coverage(self._reference, features)
        return {
            "frechet_distance": metrics.frechet_distance(self._reference, features),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": _fraction(covered),
            **self._class_metrics(samples, covered, probabilities),
        }

    def _class_metrics(self, samples: EvaluationSet, covered: Tensor, probabilities: Tensor) -> dict[str, float]:
        """`covered` [reference]: whether a sample lies in the neighbourhood of each reference image."""
        if self._classifier is None or self._reference_labels is None:
            return {}
        if self._classifier is not self._extractor:
            _, probabilities = self._classifier.extract(samples.samples)
        classes = probabilities.argmax(dim=1)
        fractions = metrics.class_fractions(classes, len(self._classes))
        result = {"least_class": min(fractions), "most_class": max(fractions)}
        for number, name in enumerate(self._classes):
            of_class = self._reference_labels == number
            if of_class.any():
                result[f"coverage of {name}"] = _fraction(covered[of_class])
        if samples.labels is not None:
            result["label_accuracy"] = _fraction(classes == samples.labels)
        return result


def _fraction(flags: Tensor) -> float:
    return float(flags.double().mean())
