"""Image data sets: settings for recipes, and batches of images."""

import warnings
from abc import ABC
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentd.models.card import DataCard
from latentd.models.conditions.base import ConditionKind
from latentd.models.conditions.classes import ClassCondition
from latentd.models.conditions.none import NoCondition
from latentd.models.outputs.base import OutputKind
from latentd.models.outputs.image import ImageOutput
from latentd.training.data.idx import IDX_SETS, IdxSplit, load_idx_set
from latentd.training.data.image_cache import DecodedImages, decode_images
from latentd.training.data.image_files import ReadOptions
from latentd.training.data.source import DataArgumentError, DataError, DataSettings, DataSource, OnProgress, SelectRows
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, load_classifier
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.evaluation.features import LoadExtractor
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.evaluation.picture_network import load_picture_network
from latentd.training.randomness import generator_for

_HOLD_OUT = 12
"""One of so many training images is held out."""
_QUICK_SAMPLES, _PUBLISHED_SAMPLES = 2000, 10_000
"""Samples per evaluation during training, and for published metrics."""
_SMALL_BYTES = 2**31
"""Data up to this size is kept in memory, and on the device."""
_MIN_REFERENCE = 100
"""Fewer reference images are too few for the published protocol, and for MNIST and Fashion-MNIST."""
_MIN_IMAGES = 100
"""Of fewer images of the user, none is held out."""
_MIN_HELD_OUT, _MAX_SHARE = 100, 1 / 5
"""At least so many images of the user are held out, unless they are more than this share."""


class _Images(DataSettings, ABC):
    flip: bool = False
    """Mirror a random half of the images left to right, newly chosen in each epoch."""


class IdxImages(_Images):
    """The training split of Fashion-MNIST or MNIST: 60,000 grey images of 28 x 28 pixels in 10 classes.

    The last twelfth is held out: it is not trained on, and is the reference for choosing the best generator.
    """

    name: Literal["fashion-mnist", "mnist"]

    @property
    def output(self) -> OutputKind:
        return ImageOutput(channels=1, height=28, width=28)

    @property
    def condition(self) -> ConditionKind:
        return ClassCondition(names=IDX_SETS[self.name].class_names)

    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        split = load_idx_set(self.name, path, on_progress)
        card = DataCard(name=self.name, size=None, sha256=split.sha256, licence=IDX_SETS[self.name].licence)
        return self._split(_real_images(split), self.condition.class_names, card)

    def evaluator(
        self, path: Path | None, on_progress: OnProgress, load_extractor: LoadExtractor | None = None
    ) -> Evaluator:
        """The test split is the reference. The real-data baseline is of training images."""
        test = _real_images(load_idx_set(self.name, path, on_progress, "test"))
        train = _real_images(load_idx_set(self.name, path, on_progress))
        return self._make_evaluator(test, train, _PUBLISHED_SAMPLES, load_extractor)

    def _split(self, images: RealImages, classes: tuple[str, ...], card: DataCard) -> "ImageSource":
        """Return a source of all but the last twelfth, which is the evaluator's reference if it is large enough."""
        count = len(images) - len(images) // _HOLD_OUT
        train, held_out = images[:count], images[count:]
        has_reference = len(held_out) >= _MIN_REFERENCE
        make_evaluator = partial(self._make_evaluator, held_out, train, _QUICK_SAMPLES) if has_reference else None
        return ImageSource(train, classes, card.model_copy(update={"size": count}), self.flip, make_evaluator)

    def _make_evaluator(
        self, reference: RealImages, train: RealImages, num_samples: int, load_extractor: LoadExtractor | None = None
    ) -> Evaluator:
        """By default, the features are those of the embedded classifier."""
        classifier = load_classifier()
        extractor = load_extractor() if load_extractor else classifier
        of_known_classes = classifier if self.name == CLASSIFIER_DATASET else None
        return ImageEvaluator(extractor, reference, train, num_samples, of_known_classes, self.condition.class_names)


def _real_images(split: IdxSplit) -> RealImages:
    return RealImages(torch.tensor(split.images)[:, None], torch.tensor(split.labels, dtype=torch.int64))


class ImageFolder(_Images):
    """The user's own images at `--data`: a folder, a zip or shards. They are resized and centre-cropped to squares.

    Of 100 images and more, random ones are held out: a twelfth, but at least 100, but at most a fifth. They are the
    reference for choosing the best generator, and for `latentd evaluate`.
    """

    name: Literal["image-folder"]
    weights_licence: ClassVar[str] = "unknown"
    resolution: int = Field(default=64, ge=8, le=1024)
    channels: Literal[1, 3] = 3
    image_column: str | None = None
    """Of Parquet files; None: found by its type and name."""
    label_column: str | None = None
    """Of Parquet files, a column or a Hive folder's key; None: found by its name."""
    names_encoding: str | None = None
    """Of the names in a zip or tar that are not UTF-8, such as `shift_jis`, `gbk`, `cp1252`."""

    @property
    def output(self) -> OutputKind:
        return ImageOutput(channels=self.channels, height=self.resolution, width=self.resolution)

    @property
    def condition(self) -> None:
        return None

    def load(self, path: Path | None, on_progress: OnProgress) -> "ImageSource":
        path, decoded, images = self._decode(path, on_progress)
        name = path.resolve().name if path.is_dir() else path.stem
        train, held_out = hold_out(images)
        make_evaluator = partial(self._evaluator, held_out, train, _QUICK_SAMPLES) if len(held_out) else None
        card = DataCard(name=name, size=len(train), sha256=decoded.sha256, licence="unknown")
        source = ImageSource(train, decoded.classes.names, card, self.flip, make_evaluator)
        source.why_no_classes = decoded.classes.why_none
        source.prefetch = decoded.images.nbytes > _SMALL_BYTES
        return source

    def evaluator(
        self, path: Path | None, on_progress: OnProgress, load_extractor: LoadExtractor | None = None
    ) -> Evaluator:
        """The held-out images are the reference. The real-data baseline is of the others.

        On another extractor's features, a random half of all images is the reference, as in the published protocol.
        """
        path, _, images = self._decode(path, on_progress)
        if load_extractor is None:
            train, held_out = hold_out(images)
            if not len(held_out):
                raise DataError(f"{path} has {len(images)} images; an evaluation needs at least {_MIN_IMAGES}")
            return self._evaluator(held_out, train, _PUBLISHED_SAMPLES)
        half = min(len(images) // 2, _PUBLISHED_SAMPLES)
        if half < _MIN_REFERENCE:
            raise DataError(f"{path} has {len(images)} images; an evaluation needs at least {2 * _MIN_REFERENCE}")
        order = torch.randperm(len(images), generator=generator_for(0, "halves"))
        return ImageEvaluator(load_extractor(), images[order[:half]], images[order[half : 2 * half]], half)

    def _decode(self, path: Path | None, on_progress: OnProgress) -> tuple[Path, DecodedImages, RealImages]:
        """Return the path, the decoded images, and the same images as mapped tensors."""
        if path is None:
            raise DataArgumentError(
                "this recipe trains on your own images: give their folder, zip or shards (`data` or `--data PATH`)"
            )
        options = ReadOptions(self.image_column, self.label_column, self.names_encoding)
        decoded = decode_images(path, self.resolution, self.channels, on_progress, options)
        labels = decoded.classes.labels
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes to it
            pixels = torch.from_numpy(decoded.images).permute(0, 3, 1, 2)
        return path, decoded, RealImages(pixels, None if labels is None else torch.from_numpy(labels))

    def _evaluator(self, reference: RealImages, train: RealImages, num_samples: int) -> Evaluator:
        return ImageEvaluator(load_picture_network(), reference, train, num_samples, mirrored=self.flip)


def hold_out(images: RealImages) -> tuple[RealImages, RealImages]:
    """Return the images to learn from, and those that are held out, the same ones every time."""
    count = len(images)
    if count < _MIN_IMAGES:
        return images, images[:0]
    order = torch.randperm(count, generator=generator_for(0, "held out"))
    kept = count - max(count // _HOLD_OUT, min(_MIN_HELD_OUT, int(count * _MAX_SHARE)))
    return images[order[:kept]], images[order[kept:]]


class ImageSource(DataSource):
    """Batches of images [N, C, H, W] as bytes, from memory or a mapped file, shuffled in each epoch."""

    def __init__(
        self,
        images: RealImages,
        class_names: tuple[str, ...],
        card: DataCard,
        flip: bool,
        make_evaluator: Callable[[], Evaluator] | None = None,
    ) -> None:
        self._images = images
        self._pixels = images.pixels.permute(0, 2, 3, 1)
        self._flip = flip
        self._make_evaluator = make_evaluator
        self.condition = ClassCondition(names=class_names) if class_names else NoCondition()
        self.card = card

    def evaluator(self) -> Evaluator | None:
        return self._make_evaluator and self._make_evaluator()

    def domain(self, name: str) -> "ImageSource":
        """A domain is a class: the images in one folder. Its source has no labels and no evaluator."""
        names, images = self.condition.class_names, self._images
        if images.labels is None or name not in names:
            known = f"; its folders are {', '.join(names)}" if names else f": {self.why_no_classes}"
            raise DataError(f"{self.card.name} has no folder {name!r}{known}")
        rows = images.rows[images.labels[images.rows] == names.index(name)]
        card = self.card.model_copy(update={"size": len(rows)})
        source = ImageSource(RealImages(images.pixels, None, rows), (), card, self._flip)
        source.prefetch = self.prefetch
        return source

    def preload(self, device: torch.device) -> None:
        if self._pixels.nbytes <= _SMALL_BYTES:
            self._pixels = self._pixels.to(device)

    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Raises DataError if there are fewer images than a batch needs. Incomplete last batches are dropped."""
        count, labels = len(self._images), self._images.labels
        if count < batch_size:
            raise DataError(
                f"{self.card.name} has {count} images, fewer than a batch of {batch_size}: "
                f"add images or set batch_size={max(count // 2, 1)}"
            )
        epoch, first_of_epoch = divmod(first, count // batch_size)
        while True:
            order = torch.randperm(count, generator=generator_for(seed, "epoch", epoch))
            flipped = torch.rand(count, generator=generator_for(seed, "flip", epoch)) < 0.5 if self._flip else None
            for batch in range(first_of_epoch, count // batch_size):
                rows = select(order[batch * batch_size : (batch + 1) * batch_size])
                stored = self._images.rows[rows]
                pixels = self._pixels[stored.to(self._pixels.device)]  # [N, H, W, C]
                if flipped is not None:
                    mask = flipped[rows].to(pixels.device)[:, None, None, None]
                    pixels = torch.where(mask, pixels.flip(2), pixels)
                yield pixels.permute(0, 3, 1, 2), None if labels is None else labels[stored]
            epoch, first_of_epoch = epoch + 1, 0


DATA_SETS = (IdxImages, ImageFolder)
