"""Decoding of image files of any size and mode."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Image.init()
# Pillow has more decoders; some start other programs. Not every build of Pillow has all of these.
_WANTED_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_FORMATS = tuple(name for name in _WANTED_FORMATS if name in Image.OPEN)


def decode_square(content: bytes, side: int, channels: int) -> NDArray[np.uint8]:
    """Decode an image file to a centre-cropped square [side, side, channels].

    The EXIF orientation is applied. Transparent images are put on white. Raises ValueError if the file is empty, has no
    supported format or has floating-point pixels, and whatever Pillow's decoders raise if it is damaged.
    """
    mode = "L" if channels == 1 else "RGB"
    if not content:
        raise ValueError("the file is empty")
    with _open(content) as image:
        image.draft(mode, (side, side))
        upright = ImageOps.exif_transpose(image)
        flat = _on_white(_to_8_bits(upright)).convert(mode)
    square = ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8).reshape(side, side, channels).copy()


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:  # its message shows the address of an object
        raise ValueError("the file is not an image in a supported format") from None


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (modes I;16 and I) to 8 bits. Pillow's own conversion would clip."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
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
