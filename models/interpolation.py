"""Interpolation between latents, means of several, and neighbors of one. Pure functions.

All compute in float64 and return float32. Where the result is a given latent, it is that latent bit for bit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentd.models.errors import LatentdError
from latentd.models.seeds import random_state

Vector = NDArray[np.float32]
Method = Literal["slerp", "lerp"]
Easing = Literal["linear", "smooth"]

_Float64 = NDArray[np.float64]
_MIN_NORM = 1e-12
"""A sum of vectors whose lengths add up to 1 has no direction if it is shorter than this."""

_MIN_TOTAL = 1e-6
"""Weights whose magnitudes add up to 1 cancel each other if their sum is smaller. Their mean would lie a million times
as far away."""


class NoDirectionError(LatentdError, ValueError):
    """A vector of length zero has no direction, or weights cancel each other."""


Curve = Callable[[float], Vector]
"""t (0 to 1) → a point of the curve."""


def lerp(start: Vector, end: Vector) -> Curve:
    """Return the straight line between two arrays of the same shape."""
    a, b = start.astype(np.float64), end.astype(np.float64)
    return _with_exact_ends(start, end, lambda t: (1.0 - t) * a + t * b)


def slerp(start: Vector, end: Vector) -> Curve:
    """Return the arc between two vectors [dim], at a constant angular speed. The length changes linearly.

    Shoemake 1985, "Animating rotation with quaternion curves"; for latents White 2016, https://arxiv.org/abs/1609.04468:
    the middle of a straight line between normal latents is shorter than the latents seen in training.
    Between opposite vectors, which have many arcs, the arc passes through the axis of the smallest component. If a
    vector is zero or has only one dimension, the result is `lerp`.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if length_a == 0.0 or length_b == 0.0 or a.size == 1:
        return lerp(start, end)
    a, b = a / length_a, b / length_b
    cosine = float(a @ b)
    across = b - cosine * a
    angle = math.atan2(float(np.linalg.norm(across)), cosine)  # exact for small and large angles, unlike arccos
    side = _perpendicular(a, across)

    def point(t: float) -> _Float64:
        length = (1.0 - t) * length_a + t * length_b
        return length * (math.cos(t * angle) * a + math.sin(t * angle) * side)

    return _with_exact_ends(start, end, point)


def _with_exact_ends(start: Vector, end: Vector, between: Callable[[float], _Float64]) -> Curve:
    def point(t: float) -> Vector:
        if t in (0.0, 1.0):
            return end if t else start
        return _to_float32(between(t))

    return point


def ease(t: float, easing: Easing) -> float:
    """Return the position (0 to 1) at time t (0 to 1). `smooth` starts and ends at rest: 3t² - 2t³."""
    return t * t * (3.0 - 2.0 * t) if easing == "smooth" else t


@dataclass(frozen=True)
class KeyframePath:
    """Frames from keyframe to keyframe. A segment has `steps` frames (2 or more), and shares its ends with the next."""

    keyframes: int
    """Number of keyframes, 2 or more."""
    steps: int
    loop: bool = False
    """Add a segment from the last keyframe to the first, without its last frame."""
    easing: Easing = "linear"

    def __len__(self) -> int:
        """The number of frames: (K-1)·(steps-1)+1, or K·(steps-1) of a loop."""
        between = self.steps - 1
        return self.keyframes * between if self.loop else (self.keyframes - 1) * between + 1

    def keyframe_at(self, frame: int) -> int | None:
        """Return the keyframe that `frame` shows; None if it lies between two."""
        keyframe, step = divmod(frame, self.steps - 1)
        return None if step else keyframe

    def interpolate(self, points: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
        """Interpolate the keyframes' points [K, *shape] → frames [frames, *shape]. Slerp needs vectors, [K, dim]."""
        curve = slerp if method == "slerp" else lerp
        times = [ease(step / (self.steps - 1), self.easing) for step in range(self.steps - 1)]
        stops = [*points, points[0]] if self.loop else list(points)
        frames = [point(t) for point in (curve(start, end) for start, end in pairwise(stops)) for t in times]
        return np.stack(frames if self.loop else [*frames, stops[-1]])


def spherical_mean(latents: NDArray[np.float32], weights: Sequence[float]) -> Vector:
    """Return a latent [dim] in the direction of the weighted sum of the directions of latents [K, dim].

    Its length is the mean of theirs, weighted by the weights' magnitudes. `weights`: K finite numbers. Raises
    NoDirectionError if the sum is zero.
    """
    if (only := _only_nonzero(weights)) is not None and weights[only] > 0:
        return np.asarray(latents[only])
    unit = _unit_weights(weights)
    wide = latents.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)  # [K]
    directions = wide / np.where(lengths == 0.0, 1.0, lengths)[:, None]
    total = unit @ directions
    norm = float(np.linalg.norm(total))
    if norm < _MIN_NORM:
        raise NoDirectionError("the weighted latents cancel each other")
    return _to_float32(float(np.abs(unit) @ lengths) * total / norm)


def weighted_mean(points: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the weighted mean [*shape] of points [K, *shape].

    `weights`: K finite numbers. Raises NoDirectionError if they add up to zero.
    """
    if (only := _only_nonzero(weights)) is not None:
        return np.asarray(points[only])
    return _to_float32(np.tensordot(normalized_weights(weights), points.astype(np.float64), axes=1))


def normalized_weights(weights: Sequence[float]) -> NDArray[np.float64]:
    """Scale weights [K] so that they add up to 1. Raises NoDirectionError if they add up to zero."""
    unit = _unit_weights(weights)
    total = float(unit.sum())
    if abs(total) < _MIN_TOTAL:
        raise NoDirectionError("the weights add up to zero")
    normalized: NDArray[np.float64] = unit / total
    return normalized


def normalized_magnitudes(weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the magnitudes of weights [K], which are not all zero, scaled so that they add up to 1."""
    return _to_float32(np.abs(_unit_weights(weights)))


def neighbor(center: Vector, degrees: float, seed: int) -> Vector:
    """Turn the latent `center` [dim] by an angle (0 to 180 degrees) in a direction drawn from `seed`. Keep its length.

    The direction is a normal vector, drawn as latents are, then made perpendicular to `center`. Raises NoDirectionError
    if `center` is zero or has only one dimension.
    """
    if degrees == 0.0:
        return center
    wide = center.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if length == 0.0 or wide.size == 1:
        raise NoDirectionError("a latent without a direction has no neighbors at an angle")
    direction = wide / length
    drawn = random_state(seed).standard_normal(wide.size)
    across = drawn - (drawn @ direction) * direction
    angle = np.radians(degrees)
    return _to_float32(length * (np.cos(angle) * direction + np.sin(angle) * _perpendicular(direction, across)))


def _perpendicular(unit: _Float64, across: _Float64) -> _Float64:
    """Return a unit vector perpendicular to `unit`: near `across`, or near an axis if `across` is zero."""
    if np.linalg.norm(across) < _MIN_NORM:
        across = np.zeros_like(unit)
        across[np.argmin(np.abs(unit))] = 1.0
    across = across / np.linalg.norm(across)
    across = across - (across @ unit) * unit
    perpendicular: _Float64 = across / np.linalg.norm(across)
    return perpendicular


def _only_nonzero(weights: Sequence[float]) -> int | None:
    """Return the index of the single weight that is not zero; None if there are several."""
    nonzero = [index for index, weight in enumerate(weights) if weight != 0.0]
    return nonzero[0] if len(nonzero) == 1 else None


def _unit_weights(weights: Sequence[float]) -> _Float64:
    """Scale weights so that their magnitudes add up to 1."""
    scaled = np.asarray(weights, dtype=np.float64) / max(map(abs, weights))  # the sum of large weights may overflow
    unit: _Float64 = scaled / np.abs(scaled).sum()
    return unit


def _to_float32(values: _Float64) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # callers check that samples are finite
        return values.astype(np.float32)
