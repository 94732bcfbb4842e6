"""What can be measured on pictures, and the words that people have for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentd.models.outputs.base import Samples
from latentd.training.directions.dataset import Wide

_CORNER = 3
_DARK = 0.1
_STEEPNESS = 4.0
"""A pixel of a quarter of full brightness and more belongs to the thing."""
_TINY = 1e-6


class Pictures:
    """Pictures of things on black ground, looked at all together."""

    def __init__(self, samples: Samples) -> None:
        """`samples` [N, C, H, W] in [-1, 1]."""
        self.light = (samples.mean(axis=1, dtype=np.float64) + 1) / 2  # [N, H, W], 0 … 1
        height, width = self.light.shape[1:]
        y, x = np.mgrid[:height, :width]
        self.y, self.x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5  # [H, W], from -½ to ½

    @property
    def has_dark_ground(self) -> bool:
        """Whether corners are black, as they are of things that were cut out."""
        ends = [*range(_CORNER), *range(-_CORNER, 0)]
        return bool(self.light[:, ends][:, :, ends].mean() < _DARK)

    @cached_property
    def mask(self) -> Wide:
        """[N, H, W]: where the thing is, 0 … 1."""
        mask: Wide = (self.light * _STEEPNESS).clip(0, 1)
        return mask

    @cached_property
    def area(self) -> Wide:
        """[N], in pixels."""
        area: Wide = self.mask.sum((1, 2)) + _TINY
        return area

    def mean(self, values: Wide) -> Wide:
        """[N, H, W] → [N], over the thing."""
        mean: Wide = (self.mask * values).sum((1, 2)) / self.area
        return mean

    def spread(self, values: Wide) -> Wide:
        """Standard deviation of [N, H, W] or [H, W] over the thing, [N]."""
        spread: Wide = np.sqrt(self.mean((values - self.mean(values + 0 * self.mask)[:, None, None]) ** 2))
        return spread

    def edges(self, axis: int) -> Wide:
        """How much neighbours along an axis of the picture differ within the thing, a pixel of it; [N]."""
        first, second = [slice(None)] * 3, [slice(None)] * 3
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        both = self.mask[tuple(first)] * self.mask[tuple(second)]
        edges: Wide = (np.abs(np.diff(self.light, axis=axis)) * both).sum((1, 2)) / self.area
        return edges

    def covered(self, where: Wide) -> Wide:
        """Share of the places `where` [H, W] is true that the thing covers, [N]."""
        covered: Wide = self.mask[:, where].mean(axis=1)
        return covered


@dataclass(frozen=True)
class Measure:
    """A word, what more of it looks like, and how it is measured: pictures → [N].

    What is `held` is taken out of it first, so that the direction does something of its own.
    """

    name: str
    about: str
    of: Callable[[Pictures], Wide]
    held: tuple[str, ...] = ()
    of_things: bool = True
    """Needs things on black ground."""


MEASURES = (
    Measure("brightness", "From dark to bright.", lambda seen: seen.mean(seen.light), of_things=False),
    Measure("size", "From little to much of the picture.", lambda seen: seen.area),
    Measure("width", "From narrow to wide.", lambda seen: seen.spread(seen.x)),
    Measure("height", "From low to tall.", lambda seen: seen.spread(seen.y)),
    Measure(
        "slenderness",
        "From squat to slender, at the same size.",
        lambda seen: np.log((seen.spread(seen.y) + _TINY) / (seen.spread(seen.x) + _TINY)),
        held=("size",),
    ),
    Measure(
        "pattern",
        "From plain to patterned.",
        lambda seen: seen.edges(1) + seen.edges(2),
        held=("brightness", "size"),
        of_things=False,
    ),
    Measure(
        "sleeves",
        "From bare upper sides to covered ones: of tops and dresses, sleeves.",
        lambda seen: seen.covered((np.abs(seen.x) > 0.25) & (seen.y < 1 / 6)),
        held=("size",),
    ),
    Measure(
        "bottom-heavy",
        "From weight above the middle to weight below it, at the same size.",
        lambda seen: seen.mean(seen.y + 0 * seen.mask),
        held=("size",),
    ),
    Measure(
        "symmetry",
        "From left and right unlike to alike.",
        lambda seen: -np.abs(seen.mask - seen.mask[:, :, ::-1]).sum((1, 2)) / seen.area,
        held=("size",),
    ),
)
