"""One image file of any size and mode → a square of bytes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Image.init()
# Pillow opens more, some of it by starting other programs; and not every build of it opens all of these.
_WANTED_DECODERS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_DECODERS = tuple(name for name in _WANTED_DECODERS if name in Image.OPEN)


def decode_square(content: bytes, side: int, channels: int) -> NDArray[np.uint8]:
    """An image file's bytes → [side, side, channels]: upright, on white where it is transparent, centre-cropped."""
    mode = "L" if channels == 1 else "RGB"
    if not content:
        raise ValueError("it is empty")
    with _open(content) as image:
        image.draft(mode, (side, side))
        upright = ImageOps.exif_transpose(image)
        flat = _on_white(_in_eight_bits(upright)).convert(mode)
    square = ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8).reshape(side, side, channels).copy()


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_DECODERS)
    except UnidentifiedImageError:  # whose message names an object in memory
        raise ValueError("it is no image of a kind that is read") from None


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (modes I;16 and I) scaled to 8 bits, where Pillow's own conversion would clip."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range nobody knows; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
    return Image.fromarray(values.astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent)
