"""Frames into one moving file: GIF, APNG, WebP and MP4, with a line of text that says how it was made."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from latentd.models.outputs.metadata import METADATA_KEY, as_xmp

Frame = NDArray[np.uint8]
"""[H, W, C] with C = 1 (grey) or 3 (RGB)."""

MEDIA_TYPES = {"gif": "image/gif", "apng": "image/apng", "webp": "image/webp", "mp4": "video/mp4"}
MAX_SIDE = 4096
"""Pixels; H.264 decoders in browsers and phones take no more."""
MAX_SECONDS = 600
"""A GIF says how long a frame stands in 16 bits of hundredths of a second, and equal frames are joined."""
MAX_GIF_FPS = 50
"""Browsers show what stands shorter than two hundredths of a second for ten of them."""
MAX_PIXELS = 2**26
"""Of all frames together: what is in memory while a film is encoded, and takes up to half a minute."""

_X264 = {"crf": "18", "preset": "medium", "x264-params": "threads=1:lookahead-threads=1:sync-lookahead=0:mbtree=0"}
"""Bytes that repeat themselves: the macroblock tree uses memory that was never written, at least for small frames."""
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BT709, _VIDEO_RANGE = 1, 1
"""As ITU-T H.273 numbers them, and FFmpeg."""
_PALETTE_PIXELS = 2**18
_COLOURS = 256
_FILTERS = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}


@dataclass(frozen=True)
class AnimationOptions:
    """How frames are shown: frames a second, and how they are enlarged."""

    fps: int
    scale: int = 1
    """Whole factor."""
    filter: Literal["nearest", "lanczos"] = "nearest"


def encode_animation(frames: Iterable[Frame], format: str, projection: AnimationOptions, text: str) -> bytes:
    """`frames` (at least one, all of a size) as a file of one of MEDIA_TYPES that plays without end and carries `text`.

    All but MP4 keep grey frames exactly, APNG and WebP colours too. The same frames give the same bytes.
    """
    if format == "mp4":
        return _mp4((_enlarge(frame, projection) for frame in frames), projection.fps, text)
    frames = list(frames)
    palette = _palette(frames) if format == "gif" and frames[0].shape[-1] > 1 else None  # 256 greys need no choice
    pictures = [Image.fromarray(_enlarge(frame, projection)) for frame in frames]
    if palette is not None:
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    return {"gif": _gif, "apng": _apng, "webp": _webp}[format](pictures, projection.fps, text)


def _palette(frames: list[Frame]) -> Image.Image:
    """The colours that serve the whole film: by median cut, then k-means, over pixels from all of it."""
    pixels = np.concatenate([frame.reshape(-1, 3) for frame in frames])  # [pixels, 3]
    chosen = pixels[:: max(1, len(pixels) // _PALETTE_PIXELS)][None]
    return Image.fromarray(chosen).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _enlarge(frame: Frame, projection: AnimationOptions) -> Frame:
    """[H, W, C] → [H·scale, W·scale] where grey, else with 3 channels."""
    pixels = frame[..., 0] if frame.shape[-1] == 1 else frame
    if projection.scale == 1:
        return np.ascontiguousarray(pixels)
    height, width = (side * projection.scale for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), _FILTERS[projection.filter]))


def _durations(count: int, fps: int, unit: int) -> list[int]:
    """Milliseconds of each frame, in whole `unit`s, so that the whole takes as long as it should."""
    ends = [round(index * 1000 / (fps * unit)) * unit for index in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def _gif(pictures: list[Image.Image], fps: int, text: str) -> bytes:
    durations = _durations(len(pictures), fps, unit=10)
    return _saved(pictures, "GIF", duration=durations, optimize=False, comment=text.encode())


def _apng(pictures: list[Image.Image], fps: int, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(METADATA_KEY, text)
    return _saved(pictures, "PNG", duration=_durations(len(pictures), fps, unit=1), pnginfo=info, compress_level=6)


def _webp(pictures: list[Image.Image], fps: int, text: str) -> bytes:
    pictures = [picture.convert("RGB") for picture in pictures]
    durations = _durations(len(pictures), fps, unit=1)
    return _saved(pictures, "WEBP", duration=durations, lossless=True, quality=80, method=4, xmp=as_xmp(text))


def _saved(frames: list[Image.Image], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], loop=0, **options)
    return buffer.getvalue()


def _mp4(frames: Iterator[Frame], fps: int, text: str) -> bytes:
    """H.264 in 4:2:0 with its index in front, which browsers and phones play; one thread, so that it repeats itself."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # to be read again when the index is moved
        _write_mp4(file.name, frames, fps, text)
        return Path(file.name).read_bytes()


def _write_mp4(path: str, frames: Iterator[Frame], fps: int, text: str) -> None:
    options = {"movflags": "+faststart+use_metadata_tags", "fflags": "+bitexact"}
    first = _even(next(frames))
    with av.open(path, "w", format="mp4", options=options) as film:
        film.metadata["comment"] = text
        stream = film.add_stream("libx264", rate=Fraction(fps), options=_X264)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = _VIDEO_RANGE
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        for pixels in chain([first], map(_even, frames)):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(pixels), format="yuv420p")))
        film.mux(stream.encode(None))


def _yuv420(pixels: Frame) -> Frame:
    """[H, W] grey or [H, W, 3] RGB, of even sides → planes [H·3/2, W] of 4:2:0 in video range (ITU-R BT.709).

    By hand, so that the matrix and the range are those that the file names, and no library's guess.
    """
    if pixels.ndim == 2:
        luma = np.rint(16.0 + pixels * (219.0 / 255.0))
        return np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128.0)]).astype(np.uint8)
    height, width, _ = pixels.shape
    rgb = pixels / 255.0  # [H, W, 3]
    luma = rgb @ _LUMA
    quarters = rgb.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))  # [H/2, W/2, 3]
    below = quarters @ _LUMA
    blue = (quarters[..., 2] - below) / (2.0 * (1.0 - _LUMA[2]))
    red = (quarters[..., 0] - below) / (2.0 * (1.0 - _LUMA[0]))
    colours = np.concatenate([blue, red]).reshape(height // 2, width)  # plane after plane
    planes: Frame = np.rint(np.concatenate([16.0 + 219.0 * luma, 128.0 + 224.0 * colours])).astype(np.uint8)
    return planes


def _even(pixels: Frame) -> Frame:
    """The last row or column twice where their number is odd: 4:2:0 halves both."""
    height, width, *_ = pixels.shape
    more = [(0, height % 2), (0, width % 2)] + [(0, 0)] * (pixels.ndim - 2)
    return np.ascontiguousarray(np.pad(pixels, more, mode="edge")) if height % 2 or width % 2 else pixels
