"""What every input kind offers to the code that trains, serves and draws samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from latentd.models.interpolation import Method
from latentd.models.kind import Kind
from latentd.models.stage_input import Rows

if TYPE_CHECKING:
    import torch

Operation = Literal["seed", "interpolate", "mix", "neighbors", "truncate", "directions", "translate"]
Space = Literal["z", "w"]


class DirectionSpace(NamedTuple):
    """The space of a generator's directions. They are added to z, or to every layer of w."""

    space: Space
    dim: int


class InputKind(Kind, ABC):
    """What the first stage takes: one row, an array of `shape`, for each sample.

    A method that belongs to an operation raises ValueError if the kind does not have the operation.
    """

    @property
    @abstractmethod
    def operations(self) -> frozenset[Operation]:
        """What can be done with inputs: `seed` draws one from a seed, `translate` takes one from a file."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""

    @property
    def size(self) -> int:
        """The number of values in one row."""
        return math.prod(self.shape)

    @property
    def spaces(self) -> tuple[str, ...]:
        """The latent spaces in which rows can be changed, in the order of the stages."""
        return ()

    @property
    def edit_space(self) -> str | None:
        """The space in which truncation and directions change rows: the last one; None without spaces."""
        return self.spaces[-1] if self.spaces else None

    @abstractmethod
    def draw(self, stream: np.random.RandomState) -> Rows:
        """Draw one row [*shape]. Kinds without the operation `seed` need this for calibration."""

    def parse(self, value: Any) -> Rows:
        """Return the row [*shape] that a request gives as JSON. Raises ValueError if it is not valid."""
        raise self._lacks("seed")

    def provenance(self, row: Rows) -> dict[str, Any]:
        """Return the provenance of a row that has no seed and is from no file, such as {"latent": …}."""
        raise self._lacks("seed")

    def read(self, file: bytes) -> tuple[Rows, dict[str, Any]]:
        """Return the row [*shape] that a file holds, and its provenance. Raises ValueError if the file is not valid."""
        raise self._lacks("translate")

    def count_pixels(self, file: bytes) -> int:
        """Return the number of pixels that a file's header announces. Raises ValueError if `read` would refuse it."""
        raise self._lacks("translate")

    def describe(self) -> dict[str, Any]:
        """Return the request fields that carry rows, each with its JSON schema."""
        return {}

    @property
    def direction_space(self) -> DirectionSpace | None:
        """The space of the generator's directions; None without the operation `directions`."""
        return None

    @property
    def layers(self) -> int | None:
        """The number of layers of w, each of which has a style; None if there is no w."""
        return None

    def interpolation_method(self, space: str) -> Method:
        """Return the default method of interpolation between rows of `space`."""
        raise self._lacks("interpolate")

    def mean(self, rows: Rows, weights: Sequence[float], space: str) -> Rows:
        """Return the weighted mean of rows [K, *shape] of `space`. Raises NoDirectionError if there is none."""
        raise self._lacks("mix")

    def check_weights(self, weights: Sequence[float], space: str) -> None:
        """Raise NoDirectionError if these weights have no mean, whatever the rows are."""
        raise self._lacks("mix")

    def neighbor(self, row: Rows, degrees: float, seed: int) -> Rows:
        """Return a row at an angle to `row`, in a direction drawn from `seed`.

        Raises NoDirectionError if `row` has no direction.
        """
        raise self._lacks("neighbors")

    def draw_tensor(self, count: int, random: "torch.Generator") -> "torch.Tensor":
        """Draw rows [count, *shape] for training, where rows need no seeds and speed matters."""
        raise self._lacks("seed")

    @property
    def deviation(self) -> float:
        """The standard deviation of the numbers of drawn rows."""
        raise self._lacks("seed")

    def _lacks(self, operation: Operation) -> ValueError:
        return ValueError(f"{self.kind} inputs do not have the operation {operation}")
