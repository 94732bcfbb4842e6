"""No condition: the generator takes nothing but its input."""

from typing import Any, Literal

import numpy as np

from latentd.models.conditions.base import ConditionKind
from latentd.models.stage_input import Rows


class NoCondition(ConditionKind):
    """The generator takes nothing but its input."""

    kind: Literal["none"] = "none"

    @property
    def size(self) -> int:
        return 0

    @property
    def field(self) -> None:
        return None

    def parse(self, value: Any) -> Rows:
        raise ValueError("it has no classes and takes no other condition")

    def draw(self, stream: np.random.RandomState) -> Rows:
        return np.zeros(0, dtype=np.float32)

    def describe_row(self, row: Rows) -> None:
        return None


KIND = NoCondition
