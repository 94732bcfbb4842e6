"""Metrics of images, computed on the features of a network."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentd.models.outputs.image import pixel_features
from latentd.training.data.chunks import joined
from latentd.training.data.pixels import normalize
from latentd.training.evaluation import metrics
from latentd.training.evaluation.classifier import Classifier
from latentd.training.evaluation.evaluator import EvaluationSet, Evaluator
from latentd.training.evaluation.features import FeatureExtractor

_IDENTICAL = 1e-4
"""Images at a smaller distance are identical but for rounding."""


class RealImages:
    """Images as bytes, and their classes if they have any. A part of them is a view: nothing is copied until read."""

    def __init__(self, pixels: Tensor, labels: Tensor | None = None, rows: Tensor | None = None) -> None:
        """`pixels`: [M, C, H, W], may be mapped from a file. `labels`: [M]. `rows`: which of the M in which order."""
        self.pixels = pixels
        self.labels = labels
        self.rows = torch.arange(len(pixels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | slice) -> "RealImages":
        return RealImages(self.pixels, self.labels, self.rows[rows])

    def read(self, rows: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        """Return images [N, C, H, W] as floating-point numbers in [-1, 1], and their classes [N] if they have any."""
        chosen = self.rows[rows]
        return normalize(self.pixels[chosen]), None if self.labels is None else self.labels[chosen]

    def evaluation_set(self) -> EvaluationSet:
        """Return the images as samples."""
        return EvaluationSet(len(self), tuple(self.pixels.shape[1:]), self.read, is_real=True)


@dataclass(frozen=True)
class _Extracted:
    """What is kept of a set of N samples."""

    features: Tensor
    """[N, values]"""
    probabilities: Tensor | None
    """[N, classes of the extractor]; None if it has no classes."""
    classes: Tensor | None
    """[N], as the classifier sees them; None without a classifier."""
    labels: Tensor | None
    """[N], as the set has them."""
    pixels: Tensor
    """[first samples, values]: the pixel features of those whose nearest training image is searched."""


class ImageEvaluator(Evaluator):
    """Metrics of images on the features of `extractor`. `reference` must not contain images of `train`.

    All: `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`, and `nearest_training`:
    the median distance to the nearest training image (see the method). It is much smaller than that of real images if
    the generator has memorised its data. `inception_score`, if the extractor has classes.

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
        mirrored: bool = False,
    ) -> None:
        """`mirrored`: the generator learns from mirrored images too, so a copy of one is a copy."""
        self.measured_on = extractor.measured_on
        self.num_samples = min(num_samples, len(reference), len(train))
        self._extractor = extractor
        self._classifier = classifier
        self._classes = classes
        self._mirrored = mirrored
        extracted = self._extract(reference.evaluation_set())
        self._reference, self._reference_labels = extracted.features, extracted.labels
        self._train = train

    def metrics(self, samples: EvaluationSet) -> dict[str, float]:
        extracted = self._extract(samples)
        result = self._quick_metrics(extracted)
        result["kernel_distance"] = metrics.kernel_distance(self._reference, extracted.features)
        if extracted.probabilities is not None:
            result["inception_score"] = metrics.inception_score(extracted.probabilities)
        return result

    def quick_metrics(self, samples: EvaluationSet) -> dict[str, float]:
        return self._quick_metrics(self._extract(samples))

    def nearest_training(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Distances are root mean square differences of the pixels that `pixel_features` gives, in [-1, 1]."""
        distances, rows = self._nearest(_pixels(samples))
        images, _ = self._train.read(rows)
        return distances, images

    def real_samples(self, draw: int) -> EvaluationSet:
        if len(self._train) == self.num_samples:
            return self._train.evaluation_set()
        random = torch.Generator().manual_seed(draw)
        return self._train[torch.randperm(len(self._train), generator=random)[: self.num_samples]].evaluation_set()

    def _extract(self, samples: EvaluationSet) -> _Extracted:
        """Return what metrics need of `samples`."""
        extract = self._extractor.extract_real if samples.is_real else self._extractor.extract
        first = self._NEAREST_SAMPLES
        parts = []
        for images, labels in samples.chunks():
            features, probabilities = extract(images)
            pixels, first = _pixels(images[:first]).clone(), max(first - len(images), 0)  # no view of the chunk
            parts.append(_Extracted(features, probabilities, self._classify(images, probabilities), labels, pixels))
        return _Extracted(
            torch.cat([part.features for part in parts]),
            joined([part.probabilities for part in parts]),
            joined([part.classes for part in parts]),
            joined([part.labels for part in parts]),
            torch.cat([part.pixels for part in parts]),
        )

    def _classify(self, images: Tensor, probabilities: Tensor | None) -> Tensor | None:
        """Return the classes of images; `probabilities` are the extractor's."""
        if self._classifier is None:
            return None
        if probabilities is None or self._classifier is not self._extractor:
            _, probabilities = self._classifier.extract(images)
        return probabilities.argmax(dim=1)

    def _nearest(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Find the nearest training image that is not identical: pixels [N, values] → distances [N], rows [N]."""
        nearest = torch.full((len(pixels),), math.inf, dtype=torch.float64)
        rows = torch.zeros(len(pixels), dtype=torch.int64)
        done = 0
        for images, _ in self._train.evaluation_set().chunks():
            distances = _distances(pixels, images)  # [N, images]
            if self._mirrored:
                distances = torch.minimum(distances, _distances(pixels, images.flip(3)))
            found = distances.min(dim=1)
            nearer = found.values < nearest
            nearest = torch.where(nearer, found.values, nearest)
            rows = torch.where(nearer, found.indices + done, rows)
            done += len(images)
        return nearest / math.sqrt(pixels.shape[1]), rows

    def _quick_metrics(self, extracted: _Extracted) -> dict[str, float]:
        precision, recall = metrics.precision_recall(self._reference, extracted.features)
        density, covered = metrics.density_coverage(self._reference, extracted.features)
        nearest, _ = self._nearest(extracted.pixels)
        return {
            "frechet_distance": metrics.frechet_distance(self._reference, extracted.features),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": _fraction(covered),
            "nearest_training": float(nearest.median()),
            **self._class_metrics(extracted, covered),
        }

    def _class_metrics(self, extracted: _Extracted, covered: Tensor) -> dict[str, float]:
        """`covered` [reference]: whether a sample lies in the neighbourhood of each reference image."""
        if extracted.classes is None or self._reference_labels is None:
            return {}
        fractions = metrics.class_fractions(extracted.classes, len(self._classes))
        result = {"least_class": min(fractions), "most_class": max(fractions)}
        for number, name in enumerate(self._classes):
            of_class = self._reference_labels == number
            if of_class.any():
                result[f"coverage of {name}"] = _fraction(covered[of_class])
        if extracted.labels is not None:
            result["label_accuracy"] = _fraction(extracted.classes == extracted.labels)
        return result


def _pixels(images: Tensor) -> Tensor:
    """Images [N, C, H, W] → pixel features [N, values]."""
    return torch.from_numpy(pixel_features(images.numpy()))


def _distances(pixels: Tensor, images: Tensor) -> Tensor:
    """Return distances of pixel features [N, values] to those of images [M, C, H, W]: [N, M]. Of identical ones, ∞."""
    distances = torch.cdist(pixels.double(), _pixels(images).double())
    distances[distances < _IDENTICAL] = math.inf
    return distances


def _fraction(flags: Tensor) -> float:
    return float(flags.double().mean())
