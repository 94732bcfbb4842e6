"""Pictures of any common format as pixels. models/inputs/image.py imports this module on use.

Files may come from anybody. Their size is checked before anything is decompressed.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # about details of damaged files

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_PIXELS = 2**24
"""Pixels per picture: 4096 × 4096."""
MAX_SIDE = 2**14
_SIXTEEN_BITS = 65535


def count_pixels(file: bytes) -> int:
    """Return the number of pixels that the header of `file` announces.

    Raises ValueError if the file is not a picture of FORMATS, or is too large.
    """
    with _opened(file) as image:
        return image.width * image.height


def decode_image(file: bytes, channels: int, height: int, width: int, *, crop: bool) -> NDArray[np.uint8]:
    """Return the first frame of a picture as [height, width, channels], channels = 1 (gray) or 3 (RGB).

    It is rotated as its EXIF data say. Transparent parts become white, 16 bits become 8, CMYK becomes RGB. Color
    profiles are not read. `crop`: scale a picture of another size until it covers this one, and keep its middle.
    Raises ValueError if the file cannot be read, or if it has another size and `crop` is false.
    """
    with _opened(file) as image:
        image.load()
        picture = _flattened(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            if not crop:
                raise ValueError(f"is {picture.width} × {picture.height} pixels; this model takes {width} × {height}")
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture).reshape(height, width, channels)


@contextmanager
def _opened(file: bytes) -> Iterator[Image.Image]:
    """Open a picture and check the size in its header. Turn any problem in the block into a ValueError."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                limit = f"at most {MAX_PIXELS} pixels, and {MAX_SIDE} per side, are read"
                raise ValueError(f"is {image.width} × {image.height} pixels; {limit}")
            yield image
    except UnidentifiedImageError as problem:
        raise ValueError(f"is not a picture in one of the formats {', '.join(FORMATS)}") from problem
    except ValueError:
        raise
    except Exception as problem:  # Pillow raises errors of any type for damaged files
        raise ValueError(f"is damaged: {problem}") from problem


def _flattened(image: Image.Image, mode: str) -> Image.Image:
    """Convert a picture to `mode`, L or RGB: 16 bits to 8, and transparent parts to white."""
    if image.mode.startswith("I"):  # 16 bits per pixel; Pillow's own conversion clips at 255
        gray = np.asarray(image).astype(np.float64).clip(0, _SIXTEEN_BITS) * (255 / _SIXTEEN_BITS)
        image = Image.fromarray(np.rint(gray).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("has floating-point pixels; save it with 8 or 16 bits")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
