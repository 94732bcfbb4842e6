"""Decoding of image files of any size and mode."""

import io
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from latentd.models.files import placeholder
from latentd.training.data.containers import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    exif_orientation,
    png_header,
    without_metadata,
)
from latentd.training.data.tiff import is_tiff, read_deep_tiff

DECODER_VERSION = 2
"""Part of the cache's key: another number, and all images are decoded again."""

Image.init()
# Pillow has more decoders; some start other programs. Not every build of Pillow has all of these.
_WANTED_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_FORMATS = tuple(name for name in _WANTED_FORMATS if name in Image.OPEN)
DECODERS = f"Pillow {Image.__version__} with {', '.join(_FORMATS)}"  # type: ignore[attr-defined]  # untyped in Pillow

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PALETTE = 3
_USUAL_GAMMA = 1 / 2.2
_DARK, _DARK_IF_DEEP = 16, 64
"""An image whose brightest value is below is reported. 12 and 14 bits in a file of 16 come out so."""


@dataclass(frozen=True)
class Decoded:
    """Pixels [side, side, channels], and what the user should know about them; "" if nothing."""

    pixels: NDArray[np.uint8]
    note: str = ""


@dataclass(frozen=True)
class _Opened:
    image: Image.Image
    orientation: int = 1
    was_deep: bool = False
    """Whether 16 bits were cut to 8."""


def decode_square(content: bytes, side: int, channels: int) -> Decoded:
    """Decode an image file to a centre-cropped square [side, side, channels].

    The EXIF orientation is applied. Transparent images are put on white. Metadata is not decoded, so that broken
    metadata does no harm. Raises ValueError if the file is empty, has no supported format or does not say which of its
    values are black and white, and whatever the decoders raise if it is damaged.
    """
    mode = "L" if channels == 1 else "RGB"
    _require_image(content)
    opened = _open_tiff(content) if is_tiff(content) else _open(content, mode, side)
    flat = _on_white(opened.image).convert(mode)
    if opened.orientation in _TURNS:
        flat = flat.transpose(_TURNS[opened.orientation])
    square = ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(square, dtype=np.uint8).reshape(side, side, channels).copy()
    return Decoded(pixels, _note(int(pixels.max()), opened.was_deep))


def _require_image(content: bytes) -> None:
    if not content:
        raise ValueError("the file is empty")
    if instead := placeholder(content[:512]):
        raise ValueError(f"it is {instead}")


def _note(brightest: int, was_deep: bool) -> str:
    if not 0 < brightest < (_DARK_IF_DEEP if was_deep else _DARK):
        return ""
    advice = "; values of 10, 12 or 14 bits must be scaled to 16" if was_deep else ""
    return f"it is nearly black, its brightest value is {brightest} of 255{advice}"


def _open_tiff(content: bytes) -> _Opened:
    deep = read_deep_tiff(content)
    if deep:
        image, orientation, was_deep, is_linear = deep
        return _Opened(_with_gamma(image, 1.0 if is_linear else None), orientation, was_deep)
    with _pillow(content) as image:
        image.load()  # Pillow turns a TIFF upright
        return _Opened(_without_float(image))


def _open(content: bytes, mode: str, side: int) -> _Opened:
    picture = without_metadata(content)
    try:
        return _decoded(picture.content, mode, side, picture.orientation, _unusual(picture.gamma))
    except OSError:
        if content.startswith(JPEG_SIGNATURE) and _lacks_only_its_end(picture.content):
            return _decoded(picture.content.removesuffix(b"\xff") + b"\xff\xd9", mode, side, picture.orientation, None)
        raise


def _decoded(content: bytes, mode: str, side: int, orientation: int, gamma: float | None) -> _Opened:
    image, was_deep = _deep_png(content, gamma), True
    if image is None:
        image = _pillow(content)
        image.draft(mode, (side, side))
        image.load()
        if not content.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
            orientation = _orientation_of(image)
        was_deep = image.mode.startswith("I")
        image = _with_gamma(_opaque_if_empty(_16_to_8_bits(_without_float(image))), gamma)
    return _Opened(image, orientation, was_deep)


def _pillow(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:  # its message shows the address of an object
        raise ValueError("the file is not an image in a supported format") from None


def _deep_png(content: bytes, gamma: float | None) -> Image.Image | None:
    """Decode a PNG whose transparent color or gamma Pillow would lose: of 16 bits, or of less than 8."""
    if not content.startswith(PNG_SIGNATURE) or len(content) < 33:
        return None
    depth, kind = png_header(content)
    has_key = b"tRNS" in content[: content.find(b"IDAT")]
    if kind == _PALETTE or depth == 8 or not (has_key or (depth == 16 and gamma)):
        return None
    with _pillow(content) as image:
        image.load()  # checks the size and the sums, which imagecodecs does not
    values = imagecodecs.png_decode(content)
    if values.dtype == np.uint16:
        values = (_curve(values / 65535.0, gamma) * 65535).astype(np.uint16) >> 8 if gamma else values >> 8
    return Image.fromarray(values.astype(np.uint8))


def _curve(light: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    return light ** (_USUAL_GAMMA / gamma)


def _unusual(gamma: float | None) -> float | None:
    """Return a gamma that is far from that of most pictures; otherwise None. Linear light would come out dark."""
    return gamma if gamma and 0.1 < gamma < 10 and abs(gamma / _USUAL_GAMMA - 1) > 0.15 else None


def _with_gamma(image: Image.Image, gamma: float | None) -> Image.Image:
    """Make an image of this gamma as bright as most pictures."""
    if gamma is None or image.mode in ("CMYK", "LAB"):
        return image
    flat = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB")
    curve = (_curve(np.arange(256) / 255.0, gamma) * 255).round().astype(int).tolist()
    return flat.point([value for band in flat.getbands() for value in (range(256) if band == "A" else curve)])


def _orientation_of(image: Image.Image) -> int:
    exif = image.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def _without_float(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    return image


def _16_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (modes I;16 and I) to 8 bits. Pillow's own conversion would clip."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
    return Image.fromarray(values.astype(np.uint8))


def _opaque_if_empty(image: Image.Image) -> Image.Image:
    """Drop the alpha of a BMP or TGA if it is 0 everywhere: many programs write it so and mean no transparency."""
    if image.format in ("BMP", "TGA") and image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
        return image.convert("RGB")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    if image.mode == "La":  # premultiplied, as RGBa is; Pillow converts it to LA only
        image = image.convert("LA")
    transparent = image.convert("RGBA")
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent)


def _lacks_only_its_end(jpeg: bytes) -> bool:
    """Return whether a JPEG has all its pixels and lacks the end marker only.

    If pixels are missing, bytes that come after are decoded as pixels; if none is missing, they are passed over.
    """
    images = []
    for tail in (b"\xff\xd9", b"\x5a\xc3\x39\x96" * 64 + b"\xff\xd9"):
        try:
            with _pillow(jpeg.removesuffix(b"\xff") + tail) as image:
                image.load()
                images.append(image.tobytes())
        except (OSError, ValueError):
            return False
    return images[0] == images[1]
