"""Points: [dim] floats without bounds, and the arrays, numbers and moving plots they become."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import orjson
from PIL import Image, ImageDraw
from pydantic import Field

from latentd.models.outputs.animation import Frame
from latentd.models.outputs.base import FrameData, OutputKind, Samples, encode_npy

_PLOT_SIDE = 256
_SHARPNESS = 2
"""Plots are drawn so many times as large, and made smaller again to smooth their edges."""
_MARGIN = 0.08
_PAPER, _AXIS, _PAST, _NOW = (255, 255, 255), (225, 225, 225), (150, 180, 220), (20, 60, 140)


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
        """A scatter plot that fills: a frame shows its own point, and those of the frames before in pale."""
        points = _placed(np.stack(frame_data))
        side = _PLOT_SIDE * _SHARPNESS
        plot = Image.new("RGB", (side, side), _PAPER)
        axes = ImageDraw.Draw(plot)
        axes.line([(0, side / 2), (side, side / 2)], fill=_AXIS, width=_SHARPNESS)
        axes.line([(side / 2, 0), (side / 2, side)], fill=_AXIS, width=_SHARPNESS)
        for x, y in points:
            shown = plot.copy()
            ImageDraw.Draw(shown).circle((x, y), 6 * _SHARPNESS, fill=_NOW)
            yield np.asarray(shown.resize((_PLOT_SIDE, _PLOT_SIDE), Image.Resampling.BOX))
            ImageDraw.Draw(plot).circle((x, y), 3 * _SHARPNESS, fill=_PAST)


def _placed(points: Samples) -> list[tuple[float, float]]:
    """Points [N, 2] → places in the plot: the origin in the middle, the farthest point just within, y upward."""
    farthest = float(np.abs(points).max()) or 1.0
    unit = points.astype(np.float64) / farthest * (1.0 - _MARGIN) * [1.0, -1.0]
    places = (unit + 1.0) / 2.0 * _PLOT_SIDE * _SHARPNESS
    return [(float(x), float(y)) for x, y in places]
