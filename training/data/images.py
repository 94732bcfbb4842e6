"""Image data sets: what recipes can name, and batches of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from models.checkpoint import DataCard
from models.outputs import ImageOutput, Output
from training.data.folder import decode_folder
from training.data.idx import IDX_SETS, load_idx_set
from training.data.source import DataError, DataSettings, DataSource, OnProgress
from training.randomness import generator_for


class IdxImages(DataSettings):
    """The training split of Fashion-MNIST or MNIST: 60,000 grey images of 28 x 28 pixels in 10 classes."""

    name: Literal["fashion-mnist", "mnist"]

    @property
    def output(self) -> Output:
        return ImageOutput(channels=1, height=28, width=28)

    @property
    def class_names(self) -> tuple[str, ...]:
        return IDX_SETS[self.name].class_names

    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        loaded = load_idx_set(self.name, path, on_progress)
        card = DataCard(
            name=self.name, size=len(loaded.images), sha256=loaded.sha256, licence=IDX_SETS[self.name].licence
        )
        return ImageSource(loaded.images[..., None], torch.from_numpy(loaded.labels.astype(np.int64)), card)


class ImageFolder(DataSettings):
    """A folder or a zip of images, found by `--data`; resized and centre-cropped to a square."""

    name: Literal["image-folder"]
    weights_licence: ClassVar[str] = "unknown"
    resolution: int = Field(default=64, ge=8, le=1024)
    channels: Literal[1, 3] = 3

    @property
    def output(self) -> Output:
        return ImageOutput(channels=self.channels, height=self.resolution, width=self.resolution)

    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        if path is None:
            raise DataError("this recipe learns from your own images: give their folder or zip with --data PATH")
        decoded = decode_folder(path, self.resolution, self.channels, on_progress)
        name = path.resolve().name if path.is_dir() else path.stem
        card = DataCard(name=name, size=len(decoded.images), sha256=decoded.sha256, licence="unknown")
        return ImageSource(decoded.images, None, card)


class ImageSource(DataSource):
    """Images [N, H, W, C] as bytes in memory (or mapped from a file), drawn in shuffled epochs."""

    def __init__(self, images: NDArray[np.uint8], labels: Tensor | None, card: DataCard) -> None:
        self._images = images
        self._labels = labels
        self.card = card

    def draw(self, batch_size: int, seed: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        count = len(self._images)
        if count < batch_size:
            raise DataError(
                f"{self.card.name} has {count} images, fewer than a batch of {batch_size}: "
                f"add images or set batch_size={max(count // 2, 1)}"
            )
        epoch, first_of_epoch = divmod(first, count // batch_size)
        while True:
            order = torch.randperm(count, generator=generator_for(seed, "epoch", epoch))
            for batch in range(first_of_epoch, count // batch_size):
                chosen = order[batch * batch_size : (batch + 1) * batch_size].sort().values
                pixels = torch.from_numpy(self._images[chosen.numpy()])  # [N, H, W, C]
                samples = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0  # [N, C, H, W] in [-1, 1]
                labels = None if self._labels is None else self._labels[chosen]
                yield samples, labels
            epoch, first_of_epoch = epoch + 1, 0
