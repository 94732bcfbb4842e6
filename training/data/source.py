"""The interface of data sets: settings in a recipe before files are read, and a source of batches after."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from latentd.models.card import DataCard
from latentd.models.conditions.base import ConditionKind
from latentd.models.conditions.none import NoCondition
from latentd.models.errors import LatentdError, UsageError
from latentd.models.outputs.base import OutputKind
from latentd.training.evaluation.evaluator import Evaluator
from latentd.training.evaluation.features import LoadExtractor


class DataError(LatentdError):
    """Data cannot be found or read. The message says what, where, and what to do."""


class DataArgumentError(DataError, UsageError):
    """The recipe needs data and none was given, or the other way round."""


@dataclass(frozen=True)
class Batch:
    """Real samples [N, *shape] and, for conditional training, the rows of their conditions [N, condition.size]."""

    samples: Tensor
    condition: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(self.samples[rows], None if self.condition is None else self.condition[rows])

    def split(self, parts: int) -> list["Batch"]:
        """Split into `parts` batches of equal size."""
        conditions = [None] * parts if self.condition is None else self.condition.chunk(parts)
        return [Batch(*part) for part in zip(self.samples.chunk(parts), conditions, strict=True)]


@dataclass(frozen=True)
class TaskProgress:
    """Progress of a long task: `done` of `total` units; `total` is None if unknown."""

    task: str
    done: int
    total: int | None
    unit: str
    note: Callable[[], str] = str
    """A text to show beside it. Called only when it is shown."""


OnProgress = Callable[[TaskProgress], None]

SelectRows = Callable[[Tensor], Tensor]
"""Rows [N, ...] → the rows that this process trains on."""

Annotations = Tensor | Sequence[str]
"""What is known of N samples: class indices [N], or a caption for each."""


class DataSource(ABC):
    """A data set that has been read and yields batches."""

    card: DataCard

    condition: ConditionKind = NoCondition()
    """How a generator takes what is known of each sample: classes, or a text."""
    why_no_classes: str = "it has none"
    """The reason if there is no condition, for error messages."""
    prefetch: bool = False
    """Whether a thread should read batches ahead, because they come from a disk."""

    @abstractmethod
    def draw(
        self, batch_size: int, seed: int, first: int = 0, select: SelectRows = lambda rows: rows
    ) -> Iterator[tuple[Tensor, Annotations | None]]:
        """Yield batches without end: samples [N, *shape], and what is known of each of them.

        Samples are float32, or pixels as bytes 0 … 255 that stand for [-1, 1]. The first batch has the number `first`.
        A batch depends only on `seed` and its number. `select` picks rows of each batch.
        """

    def domain(self, name: str) -> "DataSource":
        """Return the samples of one domain, for algorithms that learn from several. Raises DataError."""
        raise DataError(f"{self.card.name} has no domain {name!r}: all its samples are of one domain")

    def evaluator(self) -> Evaluator | None:
        """Return the evaluator for use during training, with a held-out reference; None if nothing is held out."""
        return None

    def preload(self, device: torch.device) -> None:  # noqa: B027  # most data has no such place
        """Move the data to `device` if it is small enough, so that batches need no transfer."""


class DataSettings(BaseModel, ABC):
    """The `[data]` table of a recipe. It describes the data before it is read, and loads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_licence: ClassVar[str] = "Apache-2.0"
    """Licence of weights trained on this data: an SPDX expression, or `unknown` if the data is the user's own."""

    @property
    @abstractmethod
    def output(self) -> OutputKind:
        """The output spec of a generator of such data."""

    @property
    def condition(self) -> ConditionKind | None:
        """How a generator takes what is known of each sample; None if that is known only after reading."""
        return NoCondition()

    @abstractmethod
    def load(self, path: Path | None, on_progress: OnProgress) -> DataSource:
        """Find and read the data, at `path` if it is given. Raises DataError."""

    @abstractmethod
    def evaluator(
        self, path: Path | None, on_progress: OnProgress, load_extractor: LoadExtractor | None = None
    ) -> Evaluator:
        """Return the evaluator for published metrics. Raises DataError if this data cannot be evaluated.

        Features come from `load_extractor`, or by default from the classifier that ships with latentd.
        """
