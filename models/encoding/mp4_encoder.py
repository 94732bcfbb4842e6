"""MP4 animations, written with FFmpeg. models/encoding/animation.py imports this module on use."""

import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from latentd.models.encoding.animation import AnimationOptions, Frame
from latentd.models.encoding.pillow_encoder import enlarge

_X264 = {"crf": "18", "preset": "medium", "x264-params": "threads=1:lookahead-threads=1:sync-lookahead=0:mbtree=0"}
"""Options for reproducible bytes. The macroblock tree reads uninitialized memory, at least for small frames."""
_LUMA = np.array([0.2126, 0.7152, 0.0722])
_BT709, _VIDEO_RANGE = 1, 1
"""Numbers of ITU-T H.273, which FFmpeg uses too."""


def encode_mp4(frames: Iterable[Frame], options: AnimationOptions, text: str) -> bytes:
    """Encode as H.264 in 4:2:0 with the index at the front, which browsers and phones play.

    A single thread encodes, so that the bytes are reproducible.
    """
    enlarged = (_pad_to_even(enlarge(frame, options)) for frame in frames)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # FFmpeg reads it again to move the index
        _write_mp4(file.name, enlarged, options.fps, text)
        return Path(file.name).read_bytes()


def _write_mp4(path: str, frames: Iterator[Frame], fps: int, text: str) -> None:
    options = {"movflags": "+faststart+use_metadata_tags", "fflags": "+bitexact"}
    first = next(frames)
    with av.open(path, "w", format="mp4", options=options) as container:
        container.metadata["comment"] = text
        stream = container.add_stream("libx264", rate=Fraction(fps), options=_X264)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = _VIDEO_RANGE
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        for pixels in chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(pixels), format="yuv420p")))
        container.mux(stream.encode(None))


def _yuv420(pixels: Frame) -> Frame:
    """Convert gray [H, W] or RGB [H, W, 3] with even sides to 4:2:0 planes [H·3/2, W] in video range (ITU-R BT.709).

    This is done here and not by FFmpeg, so that matrix and range are the ones that the file names.
    """
    if pixels.ndim == 2:
        luma = np.rint(16.0 + pixels * (219.0 / 255.0))
        return np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128.0)]).astype(np.uint8)
    height, width, _ = pixels.shape
    rgb = pixels / 255.0  # [H, W, 3]
    luma = rgb @ _LUMA
    halved = rgb.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))  # [H/2, W/2, 3]
    halved_luma = halved @ _LUMA
    blue = (halved[..., 2] - halved_luma) / (2.0 * (1.0 - _LUMA[2]))
    red = (halved[..., 0] - halved_luma) / (2.0 * (1.0 - _LUMA[0]))
    chroma = np.concatenate([blue, red]).reshape(height // 2, width)  # one plane after the other
    planes: Frame = np.rint(np.concatenate([16.0 + 219.0 * luma, 128.0 + 224.0 * chroma])).astype(np.uint8)
    return planes


def _pad_to_even(pixels: Frame) -> Frame:
    """Repeat the last row or column if their number is odd, because 4:2:0 halves both numbers."""
    height, width, *_ = pixels.shape
    padding = [(0, height % 2), (0, width % 2)] + [(0, 0)] * (pixels.ndim - 2)
    return np.ascontiguousarray(np.pad(pixels, padding, mode="edge")) if height % 2 or width % 2 else pixels
