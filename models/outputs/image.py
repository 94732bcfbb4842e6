"""Images: [channels, height, width] floats in [-1, 1], and the picture files they become."""

import io
import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from models.outputs.base import OutputKind, Samples, encode_npy

# One fixed set of encoder options a format: a sample's bytes must not depend on the request.
_ENCODERS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 6},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "lossless": True, "quality": 80, "method": 4},
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

    def encode(self, sample: Samples, format: str) -> bytes:
        if format == "npy":
            return encode_npy(sample)
        return _encode_pixels(to_pixels(sample[None])[0], format)

    def encode_grid(self, samples: Samples, format: str) -> bytes:
        return _encode_pixels(tile(to_pixels(samples)), format)


def to_pixels(samples: Samples) -> NDArray[np.uint8]:
    """[N, C, H, W] floats in [-1, 1] → [N, H, W, C] bytes, rounded to the nearest; values outside are clipped."""
    scaled = (samples.clip(-1.0, 1.0) + 1.0) * 127.5  # [N, C, H, W] in [0, 255]
    return np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1)  # [N, H, W, C]


def tile(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, H, W, C] → one picture of ceil(√N) columns, filled row by row, without gaps; empty places are black."""
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:count] = pixels
    cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # [rows, H, columns, W, C]
    return cells.reshape(rows * height, columns * width, channels)


def _encode_pixels(pixels: NDArray[np.uint8], format: str) -> bytes:
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    buffer = io.BytesIO()
    image.save(buffer, **_ENCODERS[format])
    return buffer.getvalue()
