"""Images: [channels, height, width] floats in [-1, 1]."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latentd.models.encoding.animation import Frame
from latentd.models.encoding.npy import encode_npy
from latentd.models.outputs.base import FrameData, OutputKind, Samples

_FEATURE_SIDE = 64
"""The features of an image come from at most this many rows and columns."""


class ImageOutput(OutputKind):
    """Gray (1 channel) or RGB (3 channels) images; -1 is black, 1 is full brightness."""

    kind: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    media_types: ClassVar[dict[str, str]] = {
        "png": "image/png",
        "webp": "image/webp",
        "jpeg": "image/jpeg",
        "npy": "application/x-npy",
    }
    default_format: ClassVar[str] = "png"
    bounded: ClassVar[bool] = True
    quantized: ClassVar[str | None] = "uint8"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def stacked(self, count: int) -> Self:
        return self.model_copy(update={"channels": self.channels * count})

    @property
    def picture_size(self) -> tuple[int, int]:
        return self.height, self.width

    def quantize(self, samples: Any) -> Any:
        return quantize(samples)

    def accepts_quantized(self, format: str) -> bool:
        return format != "npy"

    def encode(self, samples: Samples, format: str) -> list[bytes]:
        if format == "npy":
            return [encode_npy(sample) for sample in samples]
        from latentd.models.encoding.image_encoders import encode_pixels

        return [encode_pixels(pixels, format) for pixels in to_pixels(samples)]

    def layouts(self, format: str) -> tuple[str, ...]:
        return super().layouts(format) or ("grid",)

    def combine(self, samples: Samples, format: str, layout: str) -> bytes:
        """Encode samples as a `grid` of ceil(√N) columns."""
        if format == "npy":
            return super().combine(samples, format, layout)
        from latentd.models.encoding.image_encoders import encode_pixels

        return encode_pixels(make_grid(to_pixels(samples)), format)

    @property
    def frame_size(self) -> tuple[int, int]:
        return self.height, self.width

    def frame_data(self, samples: Samples) -> list[FrameData]:
        return list(to_pixels(samples))

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        return iter(frame_data)

    def features(self, samples: Samples) -> Samples:
        return pixel_features(samples)

    def preview(self, samples: Samples) -> tuple[bytes, str]:
        return self.combine(samples, "png", "grid"), "png"


KIND = ImageOutput


def quantize(samples: Any) -> Any:
    """Map [-1, 1] to 0 … 255: round to the nearest integer, half to even, and clip values outside.

    NumPy arrays and tensors on any device give the same bits.
    """
    return ((samples.clip(-1.0, 1.0) + 1.0) * 127.5).round()


def to_pixels(samples: Samples) -> NDArray[np.uint8]:
    """Convert [N, C, H, W], floats in [-1, 1] or bytes, to bytes [N, H, W, C]."""
    rounded = samples if samples.dtype == np.uint8 else quantize(samples)  # [N, C, H, W]
    return rounded.astype(np.uint8, copy=False).transpose(0, 2, 3, 1)  # [N, H, W, C]


def pixel_features(samples: Samples) -> Samples:
    """Return the pixels of [N, C, H, W] as rows [N, F].

    Larger images are first reduced to 64 rows or columns. A new pixel is the mean of the area that it covers.
    """
    height, width = samples.shape[2:]
    if height > _FEATURE_SIDE:
        samples = _mean_of_cells(height, _FEATURE_SIDE) @ samples
    if width > _FEATURE_SIDE:
        samples = samples @ _mean_of_cells(width, _FEATURE_SIDE).T
    return samples.reshape(len(samples), math.prod(samples.shape[1:]))


def _mean_of_cells(pixels: int, cells: int) -> NDArray[np.float32]:
    """Return a matrix [cells, pixels] that takes a row of pixels to the means of `cells` equal parts of it."""
    edges = np.linspace(0, pixels, cells + 1)
    pixel = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)  # [cells, pixels]
    return (overlap.clip(min=0) * (cells / pixels)).astype(np.float32)


def make_grid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrange [N, H, W, C] in a grid of ceil(√N) columns, row by row and without gaps; unused cells are black."""
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = pixels
    cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    return cells.reshape(rows * height, columns * width, channels)
