"""GIF, APNG and WebP animations, written with Pillow. models/encoding/animation.py imports this module on use."""

import io
from itertools import pairwise

import numpy as np
from PIL import Image, PngImagePlugin

from latentd.models.encoding.animation import AnimationOptions, Frame
from latentd.models.encoding.metadata import METADATA_KEY, xmp_packet

_MAX_PALETTE_PIXELS = 2**18
"""The colors of a GIF are chosen from at most twice as many pixels."""
_COLORS = 256
_FILTERS = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}


def encode_with_pillow(frames: list[Frame], format: str, options: AnimationOptions, text: str) -> bytes:
    """Encode frames as `gif`, `apng` or `webp`. Arguments are as in `encode_animation`."""
    palette = _palette(frames) if format == "gif" and frames[0].shape[-1] > 1 else None  # a GIF holds all 256 grays
    images = [Image.fromarray(enlarge(frame, options)) for frame in frames]
    if palette is not None:
        images = [image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image in images]
    return {"gif": _gif, "apng": _apng, "webp": _webp}[format](images, options.fps, text)


def enlarge(frame: Frame, options: AnimationOptions) -> Frame:
    """Enlarge [H, W, C] by `options.scale`. Gray frames lose their channel dimension."""
    pixels = frame[..., 0] if frame.shape[-1] == 1 else frame
    if options.scale == 1:
        return np.ascontiguousarray(pixels)
    height, width = (side * options.scale for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), _FILTERS[options.filter]))


def _palette(frames: list[Frame]) -> Image.Image:
    """Return a palette of 256 colors for all frames: median cut, then k-means, over pixels of all frames."""
    pixels = np.concatenate([frame.reshape(-1, 3) for frame in frames])  # [pixels, 3]
    chosen = pixels[:: max(1, len(pixels) // _MAX_PALETTE_PIXELS)][None]
    return Image.fromarray(chosen).quantize(_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _durations(count: int, fps: int, unit: int) -> list[int]:
    """Return the milliseconds of each frame in multiples of `unit`. Rounding errors do not add up."""
    ends = [round(index * 1000 / (fps * unit)) * unit for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def _gif(images: list[Image.Image], fps: int, text: str) -> bytes:
    durations = _durations(len(images), fps, unit=10)
    return _save(images, "GIF", duration=durations, optimize=False, comment=text.encode())


def _apng(images: list[Image.Image], fps: int, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(METADATA_KEY, text)
    return _save(images, "PNG", duration=_durations(len(images), fps, unit=1), pnginfo=info, compress_level=6)


def _webp(images: list[Image.Image], fps: int, text: str) -> bytes:
    images = [image.convert("RGB") for image in images]
    durations = _durations(len(images), fps, unit=1)
    return _save(images, "WEBP", duration=durations, lossless=True, quality=80, method=4, xmp=xmp_packet(text))


def _save(images: list[Image.Image], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], loop=0, **options)
    return buffer.getvalue()
