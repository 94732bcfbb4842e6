"""Classes: a row has the weight of each class, one-hot for a single class."""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from latentd.models.conditions.base import ConditionKind
from latentd.models.stage_input import Rows
from latentd.models.suggestions import did_you_mean

_ROUNDING = 1e-6
"""Class weights that add up to 1 within this error come from float32 numbers. They are not rescaled, so that reading
them gives the same bits again."""


class ClassCondition(ConditionKind):
    """The generator takes the class of the sample as well."""

    kind: Literal["classes"] = "classes"
    names: tuple[str, ...] = Field(min_length=1, max_length=65536, fail_fast=True)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("class names must be distinct")
        return self

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def field(self) -> str:
        return "label"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names

    def labels(self, rows: Rows | None) -> NDArray[np.int64] | None:
        return None if rows is None else rows.argmax(axis=1)

    def encode(self, annotations: Sequence[str] | NDArray[np.int64]) -> Rows:
        if not isinstance(annotations, np.ndarray):
            return super().encode(annotations)
        rows = np.zeros((len(annotations), self.size), dtype=np.float32)
        rows[np.arange(len(annotations)), annotations] = 1.0
        return rows

    def index(self, label: int | str) -> int:
        """Return the index of a class given by index or name. Raises ValueError if there is no such class.

        A name may be in upper or lower case if only one class has this name then.
        """
        if isinstance(label, int) and 0 <= label < len(self.names):
            return label
        if isinstance(label, str):
            found = self._indices.get(label, self._folded_indices.get(label.casefold()))
            if found is not None:
                return found
        known = f"0 to {len(self.names) - 1} or {', '.join(self.names)}"
        raise ValueError(f"unknown label {label!r}{did_you_mean(label, self.names)}; known are {known}")

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def _folded_indices(self) -> dict[str, int | None]:
        """Return the index of each name in lower case; None for several names that differ only in case."""
        indices: dict[str, int | None] = {}
        for index, name in enumerate(self.names):
            folded = name.casefold()
            indices[folded] = None if folded in indices else index
        return indices

    def parse(self, value: Any) -> Rows:
        """Return the weights of a class by index or name, or of several by name: {"cat": 0.5, "dog": 0.5}."""
        weights = np.zeros(len(self.names), dtype=np.float32)
        if not isinstance(value, dict):
            weights[self.index(value)] = 1.0
            return weights
        total = math.fsum(value.values())
        if not math.isclose(total, 1.0, abs_tol=1e-4):
            raise ValueError("the weights of the classes must add up to 1")
        divisor = 1.0 if math.isclose(total, 1.0, abs_tol=_ROUNDING) else total
        for name, weight in value.items():
            weights[self.index(name)] += weight / divisor
        return weights

    def from_prompt(self, prompt: str) -> str:
        """Return the class that a prompt names. A name within a longer one (a shirt in a T-shirt) does not count."""
        if prompt in self.names:
            return prompt
        longest_first = sorted(self.names, key=len, reverse=True)
        words = "|".join(re.escape(name) for name in longest_first)
        found = {name.casefold() for name in re.findall(rf"(?<![\w-])(?:{words})(?![\w-])", prompt, re.IGNORECASE)}
        matches = [name for name in self.names if name.casefold() in found]
        if len(matches) != 1:
            what = f"names {' and '.join(matches)}" if matches else "names no class of this model"
            raise ValueError(f"it {what}; it has to name exactly one of {', '.join(self.names)}")
        return matches[0]

    def draw(self, stream: np.random.RandomState) -> Rows:
        return self.parse(int(stream.randint(len(self.names))))

    def describe_row(self, row: Rows) -> str | dict[str, float]:
        """Return the name of the class, or the weight of each class that has one, by name."""
        used = np.flatnonzero(row).tolist()
        if len(used) == 1 and row[used[0]] == 1.0:
            return self.names[used[0]]
        return {self.names[index]: float(str(row[index])) for index in used}  # the fewest digits that round to float32

    def describe(self) -> dict[str, Any]:
        by_index = {"type": "integer", "minimum": 0, "maximum": len(self.names) - 1}
        weights = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}
        return {"label": {"anyOf": [{"enum": list(self.names)}, by_index, weights]}}

    def mix(self, rows: Rows, weights: Sequence[float]) -> Rows:
        return super().mix(rows, weights).clip(max=1.0)  # by rounding, a sum may be a little more than 1


KIND = ClassCondition
