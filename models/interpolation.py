"""Ways through the latent space: between latents, among several, and around one. Pure functions, without randomness.

All work in float64 and give float32. A point that lies on a given latent is that latent, bit for bit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentd.models.latents import Latents, random_state

Vector = NDArray[np.float32]
Method = Literal["slerp", "lerp"]
Easing = Literal["linear", "smooth"]

_Wide = NDArray[np.float64]
_NO_LENGTH = 1e-12
"""Below this share of what could be, a sum of vectors has no direction."""

_NO_SUM = 1e-6
"""Weights that cancel each other up to this share of their magnitudes would throw the mean a million times as far."""


class NoDirectionError(ValueError):
    """A vector that should point somewhere has length zero, or weighted vectors cancel."""


Curve = Callable[[float], Vector]
"""From t (0 … 1) to a point."""


def lerp(start: Vector, end: Vector) -> Curve:
    """The straight line between two arrays of one shape."""
    a, b = start.astype(np.float64), end.astype(np.float64)
    return _exact_at_its_ends(start, end, lambda t: (1.0 - t) * a + t * b)


def slerp(start: Vector, end: Vector) -> Curve:
    """Slerp: the arc between two vectors [dim]; a point's length goes evenly from one to the other's.

    Shoemake 1985, "Animating rotation with quaternion curves"; for latents White 2016, https://arxiv.org/abs/1609.04468:
    on a straight line between two normal latents the middle is shorter than what the generator was trained on.
    Opposite vectors have no one arc between them: it then goes by the axis of the smallest component. Where a vector is
    zero, or there is only one dimension, the straight line is taken.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if length_a == 0.0 or length_b == 0.0 or a.size == 1:
        return lerp(start, end)
    a, b = a / length_a, b / length_b
    along = float(a @ b)
    across = b - along * a
    angle = math.atan2(float(np.linalg.norm(across)), along)  # exact for small and for large angles, unlike arccos
    side = _perpendicular(a, across)

    def point(t: float) -> _Wide:
        length = (1.0 - t) * length_a + t * length_b
        return length * (math.cos(t * angle) * a + math.sin(t * angle) * side)

    return _exact_at_its_ends(start, end, point)


def _exact_at_its_ends(start: Vector, end: Vector, between: Callable[[float], _Wide]) -> Curve:
    def point(t: float) -> Vector:
        if t in (0.0, 1.0):
            return end if t else start
        return _narrow(between(t))

    return point


def ease(t: float, easing: Easing) -> float:
    """Where a movement is at the time `t`, both 0 … 1. `smooth` starts and ends at rest: 3t² - 2t³."""
    return t * t * (3.0 - 2.0 * t) if easing == "smooth" else t


@dataclass(frozen=True)
class KeyframePath:
    """A way past `keyframes` places (≥ 2), by `steps` frames (≥ 2) a segment, of which neighbours share their ends.

    `loop` adds a segment from the last keyframe to the first, whose last frame is left out.
    """

    keyframes: int
    steps: int
    loop: bool = False
    easing: Easing = "linear"

    def __len__(self) -> int:
        """(K-1)·(steps-1)+1 frames, or K·(steps-1) of a loop."""
        between = self.steps - 1
        return self.keyframes * between if self.loop else (self.keyframes - 1) * between + 1

    def keyframe_at(self, frame: int) -> int | None:
        """The keyframe that `frame` shows; None between two."""
        keyframe, step = divmod(frame, self.steps - 1)
        return None if step else keyframe

    def interpolate(self, places: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
        """Keyframes' places [K, *shape] → every frame's [frames, *shape]."""
        way = slerp if method == "slerp" else lerp
        times = [ease(step / (self.steps - 1), self.easing) for step in range(self.steps - 1)]
        stops = [*places, places[0]] if self.loop else list(places)
        frames = [point(t) for point in (way(start, end) for start, end in pairwise(stops)) for t in times]
        return np.stack(frames if self.loop else [*frames, stops[-1]])


def spherical_mean(latents: Latents, weights: Sequence[float]) -> Vector:
    """Latents [K, dim] and K finite weights → one latent [dim], as long as they are on (weighted) average.

    It points where the weighted sum of their directions does. NoDirectionError where that sum is zero.
    """
    if (only := _only(weights)) is not None and weights[only] > 0:
        return np.asarray(latents[only])
    shares = _shares(weights)
    wide = latents.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)  # [K]
    directions = wide / np.where(lengths == 0.0, 1.0, lengths)[:, None]
    total = shares @ directions
    norm = float(np.linalg.norm(total))
    if norm < _NO_LENGTH:
        raise NoDirectionError("the weighted latents cancel each other")
    return _narrow(float(np.abs(shares) @ lengths) * total / norm)


def weighted_mean(places: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Places [K, *shape] and K finite weights → their weighted mean [*shape]. NoDirectionError where these add to 0."""
    if (only := _only(weights)) is not None:
        return np.asarray(places[only])
    return _narrow(np.tensordot(normalized_weights(weights), places.astype(np.float64), axes=1))


def normalized_weights(weights: Sequence[float]) -> NDArray[np.float64]:
    """Weights [K] → the same in proportion, which add up to 1. NoDirectionError where they add up to 0."""
    shares = _shares(weights)
    total = float(shares.sum())
    if abs(total) < _NO_SUM:
        raise NoDirectionError("the weights add up to zero")
    parts: NDArray[np.float64] = shares / total
    return parts


def normalized_magnitudes(weights: Sequence[float]) -> NDArray[np.float32]:
    """Weights [K], not all zero → each one's share of their magnitudes, which add up to 1."""
    return _narrow(np.abs(_shares(weights)))


def neighbor(center: Vector, degrees: float, seed: int) -> Vector:
    """The latent [dim] that is turned away from `center` by `degrees` (0 … 180), to the side that `seed` names.

    It is as long as `center`. The side is a normal vector drawn as a latent is, made perpendicular to `center`.
    NoDirectionError where `center` is zero or has only one dimension.
    """
    if degrees == 0.0:
        return center
    wide = center.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if length == 0.0 or wide.size == 1:
        raise NoDirectionError("there is no direction to turn from")
    direction = wide / length
    drawn = random_state(seed).standard_normal(wide.size)
    across = drawn - (drawn @ direction) * direction
    angle = np.radians(degrees)
    return _narrow(length * (np.cos(angle) * direction + np.sin(angle) * _perpendicular(direction, across)))


def _perpendicular(unit: _Wide, across: _Wide) -> _Wide:
    """A unit vector at a right angle to `unit`: along `across`, which is nearly that, if it has a direction."""
    if np.linalg.norm(across) < _NO_LENGTH:
        across = np.zeros_like(unit)
        across[np.argmin(np.abs(unit))] = 1.0
    across = across / np.linalg.norm(across)
    across = across - (across @ unit) * unit
    turned: _Wide = across / np.linalg.norm(across)
    return turned


def _only(weights: Sequence[float]) -> int | None:
    """The one weight that is not zero."""
    others = [index for index, weight in enumerate(weights) if weight != 0.0]
    return others[0] if len(others) == 1 else None


def _shares(weights: Sequence[float]) -> _Wide:
    scaled = np.asarray(weights, dtype=np.float64) / max(map(abs, weights))  # the sum of large ones may be infinite
    shares: _Wide = scaled / np.abs(scaled).sum()
    return shares


def _narrow(values: _Wide) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large is found by whoever asks for finite samples
        return values.astype(np.float32)
