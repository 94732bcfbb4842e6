"""Points: [dim] floats without bounds, and the arrays and numbers they become."""

from typing import ClassVar, Literal

import numpy as np
import orjson
from pydantic import Field

from models.outputs.base import OutputKind, Samples, encode_npy


class PointsOutput(OutputKind):
    """Points of a Euclidean space."""

    kind: Literal["points"] = "points"
    dim: int = Field(ge=1, le=65536)

    media_types: ClassVar[dict[str, str]] = {"json": "application/json", "npy": "application/x-npy"}
    default_format: ClassVar[str] = "json"
    bounded: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def encode(self, samples: Samples, format: str) -> list[bytes]:
        if format == "npy":
            return [encode_npy(sample) for sample in samples]
        rows = np.ascontiguousarray(samples, dtype=np.float32)
        return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows]
