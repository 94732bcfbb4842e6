"""The arguments of a generator's stages, as NumPy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""[N, ...]: one row for each sample."""


@dataclass(frozen=True)
class StageInput:
    """The arguments of a stage: float32 arrays with one row for each sample."""

    inputs: Rows
    """[N, ...]: z, w, a picture, or the output of the stage before."""
    condition: Rows | None = None
    """[N, spec.condition.size]; None if the stage takes no condition."""
    controls: Rows | None = None
    """[N, number of the family's controls]; None if the stage takes none."""

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Self:
        return type(self)(*(None if array is None else array[rows] for array in self._fields))  # type: ignore[arg-type]  # inputs are never None

    @property
    def arrays(self) -> list[Rows]:
        """The arrays that are not None, in the order in which a stage takes them."""
        return [array for array in self._fields if array is not None]

    @property
    def _fields(self) -> tuple[Rows | None, ...]:
        return self.inputs, self.condition, self.controls

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        inputs, *others = (
            [array for array in arrays if array is not None]
            for arrays in zip(*(part._fields for part in parts), strict=True)
        )
        return cls(np.concatenate(inputs), *(np.concatenate(arrays) if arrays else None for arrays in others))

    def padded_to(self, size: int) -> list[Rows]:
        """Return the arrays that are not None, padded with zeros to `size` rows."""
        return [_pad(array, size) for array in self.arrays]


def _pad(values: Rows, size: int) -> Rows:
    if len(values) == size:
        return values
    padded = np.zeros((size, *values.shape[1:]), dtype=np.float32)
    padded[: len(values)] = values
    return padded


@dataclass(frozen=True)
class StageSignature:
    """What a stage takes."""

    name: str
    """The stage's name in metrics and in the log."""
    space: str | None = None
    """One of `spec.input.spaces` if the stage's input is in that space."""
    condition: bool = False
    controls: bool = False
    mean: Rows | None = None
    """The mean of the space, toward which truncation moves rows; None: the origin."""

    def select(self, rows: StageInput) -> StageInput:
        """Return `rows` without the condition and the controls if the stage does not take them."""
        condition = rows.condition if self.condition else None
        return StageInput(rows.inputs, condition, rows.controls if self.controls else None)
