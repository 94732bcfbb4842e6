"""Images: [channels, height, width] floats in [-1, 1], and the picture files they become."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latentd.models.outputs.animation import Frame
from latentd.models.outputs.base import FrameData, OutputKind, Samples, encode_npy

# One fixed set of encoder options a format: a sample's bytes must not depend on the request. These encoders let other
# threads run meanwhile, which Pillow's do not for small images.
_ENCODERS: dict[str, Callable[[NDArray[np.uint8]], bytes | bytearray]] = {
    "png": partial(imagecodecs.png_encode, level=3),
    "jpeg": partial(imagecodecs.jpeg8_encode, level=95, subsampling="444"),
    "webp": lambda pixels: imagecodecs.webp_encode(_as_rgb(pixels), lossless=True, level=80, method=4),
}


class ImageOutput(OutputKind):
    """Grey (1) or RGB (3) images; -1 is black and 1 is full brightness."""

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
    grid_formats: ClassVar[frozenset[str]] = frozenset(_ENCODERS)
    bounded: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def stacked(self, count: int) -> Self:
        return self.model_copy(update={"channels": self.channels * count})

    @property
    def frame_size(self) -> tuple[int, int]:
        return self.height, self.width

    def encode(self, samples: Samples, format: str) -> list[bytes]:
        if format == "npy":
            return [encode_npy(sample) for sample in samples]
        return [_encode_pixels(pixels, format) for pixels in to_pixels(samples)]

    def encode_grid(self, samples: Samples, format: str) -> bytes:
        return _encode_pixels(make_grid(to_pixels(samples)), format)

    def frame_data(self, samples: Samples) -> list[FrameData]:
        return list(to_pixels(samples))

    def frames(self, frame_data: Sequence[FrameData]) -> Iterator[Frame]:
        return iter(frame_data)


def to_pixels(samples: Samples) -> NDArray[np.uint8]:
    """[N, C, H, W] floats in [-1, 1] → [N, H, W, C] bytes, rounded to the nearest; values outside are clipped."""
    scaled = (samples.clip(-1.0, 1.0) + 1.0) * 127.5  # [N, C, H, W] in [0, 255]
    return np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1)  # [N, H, W, C]


def make_grid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, H, W, C] → one picture of ceil(√N) columns, filled row by row, without gaps; empty places are black."""
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = pixels
    cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    return cells.reshape(rows * height, columns * width, channels)


def _encode_pixels(pixels: NDArray[np.uint8], format: str) -> bytes:
    """[H, W, C] bytes → a picture file."""
    grey = pixels.shape[-1] == 1
    return bytes(_ENCODERS[format](np.ascontiguousarray(pixels[..., 0] if grey else pixels)))


def _as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
