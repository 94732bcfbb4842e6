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

    def encode(self, sample: Samples, format: str) -> bytes:
        if format == "npy":
            return encode_npy(sample)
        return orjson.dumps(np.ascontiguousarray(sample, dtype=np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
