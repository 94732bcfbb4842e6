"""Points: [dim] floats without bounds."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import orjson
from pydantic import Field

from latentd.models.encoding.animation import Frame
from latentd.models.encoding.npy import encode_npy
from latentd.models.outputs.base import FrameData, OutputKind, Samples

_PLOT_SIDE = 256


class PointsOutput(OutputKind):
    """Points of a Euclidean space. The frames of points in a plane are a scatter plot that fills up."""

    kind: Literal["points"] = "points"
    dim: int = Field(ge=1, le=65536)

    media_types: ClassVar[dict[str, str]] = {"json": "application/json", "npy": "application/x-npy"}
    default_format: ClassVar[str] = "json"
    bounded: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def stacked(self, count: int) -> Self:
        return self.model_copy(update={"dim": self.dim * count})

    def encode(self, samples: Samples, format: str) -> list[bytes]:
        if format == "npy":
            return [encode_npy(sample) for sample in samples]
        rows = np.ascontiguousarray(samples, dtype=np.float32)
        return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows]

    @property
    def frame_size(self) -> tuple[int, int] | None:
        return (_PLOT_SIDE, _PLOT_SIDE) if self.dim == 2 else None

    def frame_data(self, samples: Samples) -> list[FrameData]:
        return list(samples)

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        from latentd.models.encoding.scatter_plot import plot_frames

        return plot_frames(np.stack(frame_data), _PLOT_SIDE)


KIND = PointsOutput
