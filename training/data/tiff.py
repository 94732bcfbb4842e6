"""TIFF files whose pixels Pillow would misread: not of 8 bits, signed, inverted, or in separate planes."""

import io
import logging
import warnings

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from latentd.training.data.containers import icc_is_linear

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs broken tags, without the file's name

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)
"""Where Pillow refuses other files too."""
_UNSIGNED = (1, 4)
_KINDS = {2: "signed integers", 3: "floating-point numbers"}
_ORIENTATION_TAG, _PROFILE_TAG = 274, 34675
_RANGE_TAGS = ((340, 341), (280, 281))
"""SMinSampleValue and SMaxSampleValue, MinSampleValue and MaxSampleValue."""


def is_tiff(content: bytes) -> bool:
    """Return whether a file begins as TIFF or BigTIFF files do."""
    return content.startswith(_TIFF_STARTS)


def read_deep_tiff(content: bytes) -> tuple[Image.Image, int, bool, bool] | None:
    """Read a TIFF that Pillow would misread; None if Pillow reads it well.

    Returns an image of 8 bits, its EXIF orientation, whether 16 bits were cut to 8, and whether it is linear light.
    Raises ValueError if the file does not say which values are black and white, or has other colors than grey, RGB,
    CMYK and LAB.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            if not isinstance(page, tifffile.TiffPage) or _pillow_reads(page):
                return None
            if page.imagewidth * page.imagelength > _MAX_PIXELS:
                raise ValueError(f"it has {page.imagewidth * page.imagelength:,} pixels; the limit is {_MAX_PIXELS:,}")
            tags = {tag.code: tag.value for tag in page.tags}
            scaled = _to_8_bits(_planes_last(page), page, _range(page, tags, file.imagej_metadata or {}))
            profile = tags.get(_PROFILE_TAG)
            is_linear = isinstance(profile, bytes) and icc_is_linear(profile)
            return _image(scaled, page), int(tags.get(_ORIENTATION_TAG, 1)), page.bitspersample > 8, is_linear
    except tifffile.TiffFileError:
        return None  # Pillow says what it is


def _pillow_reads(page: tifffile.TiffPage) -> bool:
    if page.photometric == tifffile.PHOTOMETRIC.ICCLAB:
        return False
    if page.photometric == tifffile.PHOTOMETRIC.MINISBLACK and page.samplesperpixel > 2:
        return False
    return (
        page.bitspersample in (1, 2, 4, 8)
        and page.sampleformat in _UNSIGNED
        and page.compression in TiffImagePlugin.COMPRESSION_INFO
    )


def _planes_last(page: tifffile.TiffPage) -> NDArray[np.generic]:
    """Return the pixels [height, width, samples]."""
    with warnings.catch_warnings():
        values: NDArray[np.generic] = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        values = np.moveaxis(values.reshape(page.samplesperpixel, page.imagelength, page.imagewidth), 0, -1)
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _range(page: tifffile.TiffPage, tags: dict[int, object], imagej: dict[str, object]) -> tuple[float, float]:
    """Return the values of black and white."""
    for low, high in [*((tags.get(a), tags.get(b)) for a, b in _RANGE_TAGS), (imagej.get("min"), imagej.get("max"))]:
        least, most = _number(low), _number(high)
        if most is not None and most > (least or 0.0):
            return least or 0.0, most
    if page.sampleformat in _UNSIGNED and page.bitspersample <= 16:
        return 0.0, 2.0**page.bitspersample - 1
    kind = _KINDS.get(page.sampleformat, "integers")
    raise ValueError(
        f"its pixels are {kind} of {page.bitspersample} bits, and it does not say which are black and white; "
        "save it with 8 or 16 unsigned bits"
    )


def _number(value: object) -> float | None:
    """Return a tag's number; that of the first sample if there are several."""
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else None


def _to_8_bits(values: NDArray[np.generic], page: tifffile.TiffPage, limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    if values.dtype == np.uint16 and limits == (0.0, 65535.0):
        return (values.astype(np.uint16) >> 8).astype(np.uint8)
    numbers = values.astype(np.float64)
    if numbers.size and numbers.max() > high:  # the tag is wrong: nothing is known
        high = max(high, 2.0**page.bitspersample - 1) if page.sampleformat in _UNSIGNED else float(numbers.max())
    scaled = np.nan_to_num((numbers - low) / (high - low)).clip(0, 1)
    return np.floor(scaled * 255 + 0.5).astype(np.uint8)


def _image(values: NDArray[np.uint8], page: tifffile.TiffPage) -> Image.Image:
    """Return values [height, width, samples] as an image; what comes after colors and alpha is left out."""
    kinds, samples = tifffile.PHOTOMETRIC, values.shape[-1]
    has_alpha = bool(page.extrasamples) and page.extrasamples[0] in (1, 2)
    if page.photometric in (kinds.MINISWHITE, kinds.MINISBLACK) and samples <= 2:
        grey = 255 - values[..., :1] if page.photometric == kinds.MINISWHITE else values[..., :1]
        if has_alpha and samples == 2:
            return Image.fromarray(np.concatenate([grey, values[..., 1:2]], -1), "LA")
        return Image.fromarray(grey[..., 0].copy())
    if page.photometric == kinds.RGB and samples >= 3:
        return Image.fromarray(values[..., : 3 + has_alpha].copy())
    if page.photometric == kinds.SEPARATED and samples >= 4:
        return Image.fromarray(values[..., :4].copy(), "CMYK")
    if page.photometric in (kinds.CIELAB, kinds.ICCLAB) and samples >= 3:
        lab = values[..., :3].copy()
        if page.photometric == kinds.ICCLAB:
            lab[..., 1:] ^= 128  # a and b begin at -128; Pillow expects CIELAB's signed bytes
        return Image.frombytes("LAB", (values.shape[1], values.shape[0]), lab.tobytes())
    name = getattr(page.photometric, "name", page.photometric)
    raise ValueError(
        f"its colors ({name}, {samples} samples of {page.bitspersample} bits) are none of grey, RGB, CMYK, LAB"
    )
