"""Whether two files show the same pixels."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError


def difference(one: bytes, other: bytes) -> str | None:
    """Return in what two pictures or animations differ; None if all their pixels are the same."""
    try:
        first, second = _pixels(one), _pixels(other)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        return f"the pictures cannot be compared: {problem}"
    if first.shape != second.shape:
        return f"the pictures differ in size: {first.shape} and {second.shape}"
    largest = int((np.maximum(first, second) - np.minimum(first, second)).max())
    return f"the largest difference of a pixel is {largest} of 255" if largest else None


def _pixels(content: bytes) -> NDArray[np.uint8]:
    """Return the frames of a picture or an animation [N, H, W, 4]."""
    return np.stack(list(_frames(content)))


def _frames(content: bytes) -> Iterator[NDArray[np.uint8]]:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield np.asarray(frame.convert("RGBA"))
    except UnidentifiedImageError:
        import av

        with av.open(io.BytesIO(content), "r") as video:
            for decoded in video.decode(video=0):
                yield np.asarray(decoded.to_ndarray(format="rgba"), dtype=np.uint8)
