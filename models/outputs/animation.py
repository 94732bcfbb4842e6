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

from models.outputs.tags import KEY, as_xmp

Frame = NDArray[np.uint8]
"""[H, W, C] with C = 1 (grey) or 3 (RGB)."""

MEDIA_TYPES = {"gif": "image/gif", "apng": "image/apng", "webp": "image/webp", "mp4": "video/mp4"}
MAX_SIDE = 4096
"""Pixels; H.264 decoders in browsers and phones take no more."""
MAX_PIXELS = 2**26
"""Of all frames together: what is in memory while a film is encoded, and takes up to half a minute."""

_PALETTE_FRAMES = 32
_COLOURS = 256
_FILTERS = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}


@dataclass(frozen=True)
class Projection:
    """How frames are shown: frames a second, and how they are enlarged."""

    fps: int
    scale: int = 1
    """Whole factor."""
    filter: Literal["nearest", "lanczos"] = "nearest"


def animate(frames: Iterable[Frame], format: str, projection: Projection, text: str) -> bytes:
    """`frames` (at least one, all of a size) as a file of one of MEDIA_TYPES that plays without end and carries `text`.

    All but MP4 keep grey frames exactly, APNG and WebP colours too. The same frames give the same bytes.
    """
    shown = (_enlarge(frame, projection) for frame in frames)
    if format == "mp4":
        return _mp4(shown, projection.fps, text)
    pictures = map(Image.fromarray, shown)
    return {"gif": _gif, "apng": _apng, "webp": _webp}[format](pictures, projection.fps, text)


def _enlarge(frame: Frame, projection: Projection) -> Frame:
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


def _gif(pictures: Iterator[Image.Image], fps: int, text: str) -> bytes:
    frames = list(pictures)
    if frames[0].mode != "L":  # 256 greys need no choice
        palette = _palette(frames)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    durations = _durations(len(frames), fps, unit=10)
    return _saved(frames, "GIF", duration=durations, optimize=False, comment=text.encode())


def _palette(frames: list[Image.Image]) -> Image.Image:
    """The colours that serve the whole film: by median cut, then k-means, over frames from all of it."""
    chosen = frames[:: max(1, len(frames) // _PALETTE_FRAMES)]
    together = Image.fromarray(np.concatenate([np.asarray(frame) for frame in chosen]))
    return together.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _apng(pictures: Iterator[Image.Image], fps: int, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, text)
    frames = list(pictures)
    return _saved(frames, "PNG", duration=_durations(len(frames), fps, unit=1), pnginfo=info, compress_level=6)


def _webp(pictures: Iterator[Image.Image], fps: int, text: str) -> bytes:
    frames = [picture.convert("RGB") for picture in pictures]
    durations = _durations(len(frames), fps, unit=1)
    return _saved(frames, "WEBP", duration=durations, lossless=True, quality=80, method=4, xmp=as_xmp(text))


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
        stream = film.add_stream("libx264", rate=Fraction(fps), options={"crf": "18", "preset": "medium"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in chain([first], map(_even, frames)):
            layout = "gray" if pixels.ndim == 2 else "rgb24"
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format=layout)))
        film.mux(stream.encode(None))


def _even(pixels: Frame) -> Frame:
    """The last row or column twice where their number is odd: 4:2:0 halves both."""
    height, width, *_ = pixels.shape
    more = [(0, height % 2), (0, width % 2)] + [(0, 0)] * (pixels.ndim - 2)
    return np.ascontiguousarray(np.pad(pixels, more, mode="edge")) if height % 2 or width % 2 else pixels
