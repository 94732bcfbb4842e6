"""Scatter plots of points in the plane. models/outputs/points.py imports this module on use."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from latentd.models.encoding.animation import Frame
from latentd.models.stage_input import Rows

_SUPERSAMPLING = 2
"""Plots are drawn this many times as large, and then reduced. This smooths edges."""
_MARGIN = 0.08
_BACKGROUND, _AXIS, _EARLIER, _CURRENT = (255, 255, 255), (225, 225, 225), (150, 180, 220), (20, 60, 140)


def plot_frames(points: Rows, side: int) -> Iterator[Frame]:
    """Yield a frame [side, side, 3] for each of the points [N, 2]: that point, and the earlier ones in a pale color."""
    drawn_side = side * _SUPERSAMPLING
    plot = Image.new("RGB", (drawn_side, drawn_side), _BACKGROUND)
    axes = ImageDraw.Draw(plot)
    axes.line([(0, drawn_side / 2), (drawn_side, drawn_side / 2)], fill=_AXIS, width=_SUPERSAMPLING)
    axes.line([(drawn_side / 2, 0), (drawn_side / 2, drawn_side)], fill=_AXIS, width=_SUPERSAMPLING)
    for x, y in _to_canvas(points, drawn_side):
        frame = plot.copy()
        ImageDraw.Draw(frame).circle((x, y), 6 * _SUPERSAMPLING, fill=_CURRENT)
        yield np.asarray(frame.resize((side, side), Image.Resampling.BOX))
        ImageDraw.Draw(plot).circle((x, y), 3 * _SUPERSAMPLING, fill=_EARLIER)


def _to_canvas(points: Rows, side: int) -> list[tuple[float, float]]:
    """Convert points [N, 2] to pixels: the origin in the middle, y upward, the largest coordinate at the margin."""
    largest = float(np.abs(points).max()) or 1.0
    unit = points.astype(np.float64) / largest * (1.0 - _MARGIN) * [1.0, -1.0]
    pixels = (unit + 1.0) / 2.0 * side
    return [(float(x), float(y)) for x, y in pixels]
