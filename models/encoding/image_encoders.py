"""Encoders of still images. models/outputs/image.py imports this module on use."""

from collections.abc import Callable
from functools import partial

import imagecodecs
import numpy as np
from numpy.typing import NDArray


def encode_pixels(pixels: NDArray[np.uint8], format: str) -> bytes:
    """Encode [H, W, C] bytes, C = 1 (gray) or 3 (RGB), as `png`, `jpeg` or `webp`."""
    gray = pixels.shape[-1] == 1
    return bytes(_ENCODERS[format](np.ascontiguousarray(pixels[..., 0] if gray else pixels)))


def _webp(pixels: NDArray[np.uint8]) -> bytes | bytearray:
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return imagecodecs.webp_encode(rgb, lossless=True, level=80, method=4)


# One fixed set of options for each format: a sample's bytes must not depend on the request. These encoders release the
# GIL; Pillow's do not for small images.
_ENCODERS: dict[str, Callable[[NDArray[np.uint8]], bytes | bytearray]] = {
    "png": partial(imagecodecs.png_encode, level=3),
    "jpeg": partial(imagecodecs.jpeg8_encode, level=95, subsampling="444"),
    "webp": _webp,
}
