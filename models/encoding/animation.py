"""Animations of frames: the formats, their limits, and the choice of an encoder, which is imported on use."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""[H, W, C] with C = 1 (gray) or 3 (RGB)."""

MEDIA_TYPES = {"gif": "image/gif", "apng": "image/apng", "webp": "image/webp", "mp4": "video/mp4"}
MAX_SIDE = 4096
"""Pixels per side. H.264 decoders in browsers and phones accept no more."""
MAX_SECONDS = 600
"""A GIF stores a frame's duration in 16 bits, in hundredths of a second, and equal frames are merged into one."""
MAX_GIF_FPS = 50
"""Browsers slow down frames that are shorter than two hundredths of a second."""
MAX_PIXELS = 2**26
"""Pixels of all frames together. They stay in memory while an animation is encoded, for up to half a minute."""


@dataclass(frozen=True)
class AnimationOptions:
    """Frame rate and enlargement of an animation."""

    fps: int
    scale: int = 1
    """Integer factor by which frames are enlarged."""
    filter: Literal["nearest", "lanczos"] = "nearest"


def encode_animation(frames: Iterable[Frame], format: str, options: AnimationOptions, text: str) -> bytes:
    """Encode frames (one or more, all of one size) as an endless animation that carries `text` as metadata.

    `format`: one of MEDIA_TYPES. GIF, APNG and WebP keep gray frames exactly; APNG and WebP keep colors too. The same
    frames give the same bytes.
    """
    if format == "mp4":
        from latentd.models.encoding.mp4_encoder import encode_mp4

        return encode_mp4(frames, options, text)
    from latentd.models.encoding.pillow_encoder import encode_with_pillow

    return encode_with_pillow(list(frames), format, options, text)
