"""What a data set offers to a recipe before its files are read, and to the loop after."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from latentd.models.card import DataCard
from latentd.models.errors import LatentdError
from latentd.models.outputs import Output
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.evaluation.features import LoadExtractor


class DataError(LatentdError):
    """Data that cannot be had or read; the message says what, where and what to do."""


@dataclass(frozen=True)
class Batch:
    """Real samples [N, *shape] and, for class-conditional training, their one-hot classes [N, classes]."""

    samples: Tensor
    condition: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(self.samples[rows], None if self.condition is None else self.condition[rows])

    def split(self, parts: int) -> list["Batch"]:
        """In `parts` of equal size."""
        conditions = [None] * parts if self.condition is None else self.condition.chunk(parts)
        return [Batch(*part) for part in zip(self.samples.chunk(parts), conditions, strict=True)]


@dataclass(frozen=True)
class TaskProgress:
    """How far a long piece of work has come: `done` of `total` (None: unknown) `unit`s of `task`."""

    task: str
    done: int
    total: int | None
    unit: str


OnProgress = Callable[[TaskProgress], None]


SelectRows = Callable[[Tensor], Tensor]
"""StageInput [N, ...] → some of them."""


class DataSource(ABC):
    """A data set, read and ready."""

    card: DataCard

    class_names: tuple[str, ...] = ()
    """The classes that the samples are labelled with; () where they are not."""
    why_no_classes: str = "it has none"
    prefetch: bool = False
    """Whether batches should be read ahead on a thread, because they come from a disk."""

    @abstractmethod
    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Endless batches of samples [N, *shape] and class indices [N] where the data has classes.

        Samples are float32, or the bytes of pixels, 0 … 255 for [-1, 1]. Batches begin with number `first`; each
        depends on `seed` and its number alone. `select` picks the wanted ones of a batch's samples.
        """

    def evaluator(self) -> Evaluator | None:
        """What a generator's samples are held against while it learns: real ones that it is not shown."""
        return None

    def preload(self, device: torch.device) -> None:  # noqa: B027  # most data has no such place
        """Move to `device` what is small enough to live there, so that batches need no transfer."""


class DataSettings(BaseModel, ABC):
    """The `[data]` table of a recipe: what the data will look like, and how to get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_licence: ClassVar[str] = "Apache-2.0"
    """Of what is learnt from this data, as an SPDX expression; `unknown` where only its owner can say."""

    @property
    @abstractmethod
    def output(self) -> Output:
        """The shape that a generator of such data has."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes that such data is labelled with; () where it is not, None where that is seen once it is read."""
        return ()

    @abstractmethod
    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        """Find and read the data, at `path` if that is given; DataError where that cannot be done."""

    @abstractmethod
    def evaluator(self, path: Path | None, on_progress: OnProgress, network: LoadExtractor | None = None) -> Evaluator:
        """What generated samples of such data are held against; DataError where there is nothing.

        On the features of `network`, or on what comes with latentd.
        """
