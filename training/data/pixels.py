"""What the bytes of pixels mean as numbers."""

from torch import Tensor


def normalize(pixels: Tensor) -> Tensor:
    """Bytes 0 … 255 → numbers in [-1, 1], as images leave a generator."""
    return pixels.float() / 127.5 - 1.0
