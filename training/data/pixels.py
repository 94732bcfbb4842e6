"""Conversion of pixels to floating-point numbers."""

from torch import Tensor


def normalize(pixels: Tensor) -> Tensor:
    """Scale bytes 0 … 255 to float32 in [-1, 1], the range of a generator's images."""
    return pixels.float() / 127.5 - 1.0
