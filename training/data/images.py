"""Image data sets: what recipes can name, and batches of them."""

import warnings
from abc import ABC
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentd.models.card import DataCard
from latentd.models.outputs import ImageOutput, Output
from latentd.training.data.idx import IDX_SETS, LoadedIdx, load_idx_set
from latentd.training.data.image_cache import DecodedImages, decode_collection
from latentd.training.data.source import DataError, DataSettings, DataSource, OnProgress, SelectRows
from latentd.training.evaluation.classifier import CLASSIFIER_DATASET, SEEN, load_classifier
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.evaluation.features import LoadExtractor
from latentd.training.evaluation.images import ImageEvaluator, RealImages
from latentd.training.randomness import generator_for

_HELD_OUT = 12
"""One of so many training images is not learnt from."""
_JUDGED, _PUBLISHED = 2000, 10_000
"""Samples that are judged at a time while a generator learns, and in published figures."""
_SMALL = 2**31
"""Bytes; a set up to this size lives on the device."""
_FEWEST_JUDGED = 100
"""Images by which anything is judged."""
_FEWEST_PARTED = 2000
"""Images of one's own of which some can be spared."""


class _Images(DataSettings, ABC):
    flip: bool = False
    """Mirror every second image left to right, anew whenever it is drawn."""

    def _parted(self, images: RealImages, classes: tuple[str, ...], card: DataCard) -> "ImageSource":
        """All but the last twelfth to learn from, and that to judge by, if it is enough."""
        learnt = len(images) - len(images) // _HELD_OUT
        train, held_out = images[:learnt], images[learnt:]
        card = card.model_copy(update={"size": learnt})
        source = ImageSource(train.pixels.permute(0, 2, 3, 1), train.labels, classes, card, self.flip)
        if len(held_out) >= _FEWEST_JUDGED:
            source.make_evaluator = lambda: self._evaluator(held_out, train, _JUDGED)
        return source

    def _evaluator(
        self, reference: RealImages, train: RealImages, count: int, network: LoadExtractor | None = None
    ) -> Evaluator:
        """On the embedded features, or on those of another `network`."""
        classifier = load_classifier()
        shown = classifier if network is None else network()
        known = classifier if self.name == CLASSIFIER_DATASET else None
        return ImageEvaluator(shown, reference, train, count, known, self.class_names or ())


class IdxImages(_Images):
    """The training split of Fashion-MNIST or MNIST: 60,000 grey images of 28 x 28 pixels in 10 classes.

    The last twelfth is held out: a generator does not learn from it, but is chosen by it.
    """

    name: Literal["fashion-mnist", "mnist"]

    @property
    def output(self) -> Output:
        return ImageOutput(channels=1, height=28, width=28)

    @property
    def class_names(self) -> tuple[str, ...]:
        return IDX_SETS[self.name].class_names

    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        loaded = load_idx_set(self.name, path, on_progress)
        card = DataCard(name=self.name, size=None, sha256=loaded.sha256, licence=IDX_SETS[self.name].licence)
        return self._parted(RealImages(*_tensors(loaded)), self.class_names, card)

    def evaluator(self, path: Path | None, on_progress: OnProgress, network: LoadExtractor | None = None) -> Evaluator:
        """The test split is the reference, and training images are the floor."""
        test = RealImages(*_tensors(load_idx_set(self.name, path, on_progress, "test")))
        train = RealImages(*_tensors(load_idx_set(self.name, path, on_progress)))
        return self._evaluator(test, train, _PUBLISHED, network)


def _tensors(loaded: LoadedIdx) -> tuple[Tensor, Tensor]:
    """Bytes of pixels [N, 1, H, W] and labels [N]."""
    return torch.tensor(loaded.images)[:, None], torch.tensor(loaded.labels, dtype=torch.int64)


class ImageFolder(_Images):
    """A folder, a zip or shards of images, found by `--data`; resized and centre-cropped to a square.

    Of enough images that the embedded network can judge, a twelfth is held out, as of the sets that have names.
    """

    name: Literal["image-folder"]
    weights_licence: ClassVar[str] = "unknown"
    resolution: int = Field(default=64, ge=8, le=1024)
    channels: Literal[1, 3] = 3

    @property
    def output(self) -> Output:
        return ImageOutput(channels=self.channels, height=self.resolution, width=self.resolution)

    @property
    def class_names(self) -> None:
        return None

    def load(self, path: Path | None, on_progress: OnProgress) -> "ImageSource":
        path, decoded, images = self._decoded(path, on_progress)
        name = path.resolve().name if path.is_dir() else path.stem
        card = DataCard(name=name, size=len(decoded.images), sha256=decoded.sha256, licence="unknown")
        if self._can_be_judged(decoded):
            order = torch.randperm(len(images), generator=generator_for(0, "held out"))
            source = self._parted(images[order], decoded.class_names, card)
        else:
            source = ImageSource(images.pixels.permute(0, 2, 3, 1), images.labels, decoded.class_names, card, self.flip)
        source.why_no_classes = decoded.why_no_classes
        source.prefetch = decoded.images.nbytes > _SMALL
        return source

    def evaluator(self, path: Path | None, on_progress: OnProgress, network: LoadExtractor | None = None) -> Evaluator:
        """A random half is the reference, and the other half is the floor; of either as many as are judged."""
        if network is None:
            raise DataError("the embedded features are of grey garments; --features inception judges your own images")
        path, _, images = self._decoded(path, on_progress)
        half = min(len(images) // 2, _PUBLISHED)
        if half < _FEWEST_JUDGED:
            raise DataError(f"{path} has {len(images)} images; at least {2 * _FEWEST_JUDGED} are needed to judge by")
        order = torch.randperm(len(images), generator=generator_for(0, "halves"))
        return ImageEvaluator(network(), images[order[:half]], images[order[half : 2 * half]], half)

    def _decoded(self, path: Path | None, on_progress: OnProgress) -> tuple[Path, DecodedImages, RealImages]:
        """Where the images are, and all of them, mapped."""
        if path is None:
            raise DataError("this recipe learns from your own images: give their folder, zip or shards by --data PATH")
        decoded = decode_collection(path, self.resolution, self.channels, on_progress)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nobody writes to it
            pixels = torch.from_numpy(decoded.images).permute(0, 3, 1, 2)
        return path, decoded, RealImages(pixels, None if decoded.labels is None else torch.from_numpy(decoded.labels))

    def _can_be_judged(self, decoded: DecodedImages) -> bool:
        """By the embedded network, which is shown small grey images, in memory."""
        count = len(decoded.images)
        return self.output.shape == SEEN and count >= _FEWEST_PARTED and decoded.images.nbytes <= _SMALL


class ImageSource(DataSource):
    """Bytes of images [N, H, W, C] in memory or mapped from a file, drawn in epochs that are shuffled as a whole."""

    make_evaluator: Callable[[], Evaluator] | None = None

    def __init__(
        self, pixels: Tensor, labels: Tensor | None, class_names: tuple[str, ...], card: DataCard, flip: bool
    ) -> None:
        self._pixels = pixels
        self._labels = labels
        self._flip = flip
        self.class_names = class_names
        self.card = card

    def evaluator(self) -> Evaluator | None:
        return self.make_evaluator and self.make_evaluator()

    def preload(self, device: torch.device) -> None:
        if self._pixels.nbytes <= _SMALL:
            self._pixels = self._pixels.to(device)

    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        count = len(self._pixels)
        if count < batch_size:
            raise DataError(
                f"{self.card.name} has {count} images, fewer than a batch of {batch_size}: "
                f"add images or set batch_size={max(count // 2, 1)}"
            )
        epoch, first_of_epoch = divmod(first, count // batch_size)
        while True:
            order = torch.randperm(count, generator=generator_for(seed, "epoch", epoch))
            mirrored = torch.rand(count, generator=generator_for(seed, "flip", epoch)) < 0.5 if self._flip else None
            for batch in range(first_of_epoch, count // batch_size):
                chosen = select(order[batch * batch_size : (batch + 1) * batch_size])
                pixels = self._pixels[chosen.to(self._pixels.device)]  # [N, H, W, C]
                if mirrored is not None:
                    turned = mirrored[chosen].to(pixels.device)[:, None, None, None]
                    pixels = torch.where(turned, pixels.flip(2), pixels)
                yield pixels.permute(0, 3, 1, 2), None if self._labels is None else self._labels[chosen]
            epoch, first_of_epoch = epoch + 1, 0
