"""Properties that can be measured on images, with the names that people have for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentd.models.outputs.base import Samples
from latentd.training.directions.dataset import FloatArray

_CORNER = 3
"""Pixels."""
_DARK = 0.1
_STEEPNESS = 4.0
"""A pixel of at least a quarter of full brightness belongs to the object."""
_TINY = 1e-6


class ObjectImages:
    """Images of objects on a black background, measured all at once."""

    def __init__(self, samples: Samples) -> None:
        """`samples`: [N, C, H, W] in [-1, 1]."""
        self.light = (samples.mean(axis=1, dtype=np.float64) + 1) / 2  # [N, H, W], 0 … 1
        height, width = self.light.shape[1:]
        y, x = np.mgrid[:height, :width]
        self.y, self.x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5  # [H, W], from -½ to ½

    @property
    def have_black_background(self) -> bool:
        """Whether the corners are black on average."""
        ends = [*range(_CORNER), *range(-_CORNER, 0)]
        return bool(self.light[:, ends][:, :, ends].mean() < _DARK)

    @cached_property
    def mask(self) -> FloatArray:
        """How far each pixel belongs to the object [N, H, W], 0 … 1."""
        mask: FloatArray = (self.light * _STEEPNESS).clip(0, 1)
        return mask

    @cached_property
    def area(self) -> FloatArray:
        """The objects' areas [N] in pixels."""
        area: FloatArray = self.mask.sum((1, 2)) + _TINY
        return area

    def mean(self, values: FloatArray) -> FloatArray:
        """Return the mean of `values` [N, H, W] over each object: [N]."""
        mean: FloatArray = (self.mask * values).sum((1, 2)) / self.area
        return mean

    def std(self, values: FloatArray) -> FloatArray:
        """Return the standard deviation of `values` [N, H, W] or [H, W] over each object: [N]."""
        std: FloatArray = np.sqrt(self.mean((values - self.mean(values + 0 * self.mask)[:, None, None]) ** 2))
        return std

    def edges(self, axis: int) -> FloatArray:
        """Return the mean absolute difference of neighboring pixels along an axis, within each object: [N]."""
        first, second = [slice(None)] * 3, [slice(None)] * 3
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        both = self.mask[tuple(first)] * self.mask[tuple(second)]
        edges: FloatArray = (np.abs(np.diff(self.light, axis=axis)) * both).sum((1, 2)) / self.area
        return edges

    def coverage(self, region: FloatArray) -> FloatArray:
        """Return the fraction of `region` [H, W], a mask of booleans, that each object covers: [N]."""
        coverage: FloatArray = self.mask[:, region].mean(axis=1)
        return coverage


@dataclass(frozen=True)
class Measure:
    """A property: its name, what an increase looks like, and how it is measured (images → [N]).

    Properties named in `controls` are kept constant when a direction is fitted.
    """

    name: str
    about: str
    measure: Callable[[ObjectImages], FloatArray]
    controls: tuple[str, ...] = ()
    needs_black_background: bool = True


MEASURES = (
    Measure(
        "brightness", "From dark to bright.", lambda images: images.mean(images.light), needs_black_background=False
    ),
    Measure("size", "From small to large.", lambda images: images.area),
    Measure("width", "From narrow to wide.", lambda images: images.std(images.x)),
    Measure("height", "From low to tall.", lambda images: images.std(images.y)),
    Measure(
        "slenderness",
        "From squat to slender, at the same size.",
        lambda images: np.log((images.std(images.y) + _TINY) / (images.std(images.x) + _TINY)),
        controls=("size",),
    ),
    Measure(
        "pattern",
        "From plain to patterned.",
        lambda images: images.edges(1) + images.edges(2),
        controls=("brightness", "size"),
        needs_black_background=False,
    ),
    Measure(
        "sleeves",
        "From empty to covered at the upper left and right; on tops and dresses, from no sleeves to long ones.",
        lambda images: images.coverage((np.abs(images.x) > 0.25) & (images.y < 1 / 6)),
        controls=("size",),
    ),
    Measure(
        "bottom-heavy",
        "From most of the weight above the middle to most of it below, at the same size.",
        lambda images: images.mean(images.y + 0 * images.mask),
        controls=("size",),
    ),
    Measure(
        "symmetry",
        "From different left and right halves to equal ones.",
        lambda images: -np.abs(images.mask - images.mask[:, :, ::-1]).sum((1, 2)) / images.area,
        controls=("size",),
    ),
)
