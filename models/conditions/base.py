"""What every condition kind offers to the code that trains, serves and draws samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentd.models.interpolation import KeyframePath, normalized_magnitudes
from latentd.models.kind import Kind
from latentd.models.stage_input import Rows


class ConditionKind(Kind, ABC):
    """What a generator takes beside its input: one row of numbers for each sample.

    A mean of rows is again a condition, which lies between those of the rows.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of values in one row; 0 if the generator takes no condition."""

    @property
    @abstractmethod
    def field(self) -> str | None:
        """The field of requests and answers that carries the condition; None if there is none."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of classes, if a row has a weight for each class; else empty."""
        return ()

    def labels(self, rows: Rows | None) -> NDArray[np.int64] | None:
        """Return the class index of each of the rows [N, size]; None if they have no classes."""
        del rows
        return None

    @abstractmethod
    def parse(self, value: Any) -> Rows:
        """Return the row [size] of a condition that a request gives. Raises ValueError if it is not valid."""

    def encode(self, annotations: Sequence[str] | NDArray[np.int64]) -> Rows:
        """Return the rows [N, size] of a data set's annotations for N samples: class indices, or texts."""
        return np.stack([self.parse(annotation) for annotation in annotations])

    def from_prompt(self, prompt: str) -> Any:
        """Return the condition that a free text names, as a value for `parse`. Raises ValueError if it names none."""
        return prompt

    @abstractmethod
    def draw(self, stream: np.random.RandomState) -> Rows:
        """Draw the row [size] of a sample whose request names no condition. The input is drawn before."""

    @abstractmethod
    def describe_row(self, row: Rows) -> Any:
        """Return a row as a JSON value from which `parse` makes the same row."""

    def describe(self) -> dict[str, Any]:
        """Return the request fields that carry conditions, each with its JSON schema."""
        return {}

    def mix(self, rows: Rows, weights: Sequence[float]) -> Rows:
        """Return the mean [size] of rows [K, size], weighted with the magnitudes of `weights`, not all of them zero."""
        return normalized_magnitudes(weights) @ rows

    def interpolate(self, rows: Rows, path: KeyframePath) -> Rows:
        """Return the frames' rows [frames, size] of keyframes' rows [K, size]."""
        return path.interpolate(rows, "lerp")
