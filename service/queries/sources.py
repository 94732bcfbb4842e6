"""Sources: the latents that a request names by seed or gives itself, with their classes."""

import math
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentd.models.interpolation import Vector
from latentd.models.latents import MAX_SEED
from latentd.models.spec import ClassCondition, GeneratorSpec
from latentd.service.errors import invalid
from latentd.service.schemas import Label, LatentPoint

_ROUNDING = 1e-6
"""Class weights written down from float32 add up to 1 within this error. They are not rescaled, so that they are read
back to the bit."""

ResolvedLabel = int | Vector
"""A class by index, or every class's weight [classes]."""


class Source(NamedTuple):
    """A latent of a request, with its class."""

    origin: int | Vector
    """A seed, or the latent [dim] itself."""
    label: ResolvedLabel | None
    """None: the seed's class, or an unconditional model."""

    @property
    def seed(self) -> int | None:
        """The seed; None if the request gives the latent itself."""
        return self.origin if isinstance(self.origin, int) else None

    @property
    def latent(self) -> Vector | None:
        """The latent that the request gives; None if it gives a seed."""
        return None if isinstance(self.origin, int) else self.origin


def draw_seed(last: int = MAX_SEED) -> int:
    """Return a seed from 0 to `last` that nobody can foresee."""
    return secrets.randbelow(last + 1)


def consecutive_seeds(first: int | None, count: int, field: str, last_one: str) -> range:
    """Return `count` seeds from `first` on, which is drawn if it is None. Raises ApiError 400 past MAX_SEED."""
    last_first = MAX_SEED - (count - 1)
    if first is None:
        first = draw_seed(last_first)
    if first > last_first:
        raise invalid(field, f"{last_one} would be {first + count - 1}, past {MAX_SEED}")
    return range(first, first + count)


def resolve_sources(
    points: Sequence[LatentPoint], label: Label | None, spec: GeneratorSpec, field: str
) -> list[Source]:
    """Resolve each point of a request's `field`; `label` is the class of points that name none.

    Raises ApiError 400, whose message says which point is wrong.
    """
    sources = []
    for index, point in enumerate(points):
        where = f"{field}[{index}]"
        origin: int | Vector
        if point.seed is not None and point.latent is None:
            origin = point.seed
        elif point.latent is not None and point.seed is None:
            origin = parse_latent(point.latent, spec, field, where)
        else:
            raise invalid(field, f"{where} needs either a seed or a latent")
        has_seed = point.latent is None
        if point.label is None and label is not None:
            resolved = resolve_label(label, spec, "label", "label", has_seed)
        else:
            resolved = resolve_label(point.label, spec, field, where, has_seed)
        sources.append(Source(origin, resolved))
    return sources


def parse_latent(numbers: Sequence[float], spec: GeneratorSpec, field: str, where: str) -> Vector:
    """Return the numbers as a latent [dim]. Raises ApiError 400 with `field`; its message begins with `where`."""
    if len(numbers) != spec.input.dim:
        raise invalid(field, f"{where} has {len(numbers)} numbers; this model takes {spec.input.dim}")
    with np.errstate(over="ignore"):
        latent = np.array(numbers, dtype=np.float32)
    if not np.isfinite(latent).all():
        raise invalid(field, f"{where} has a number that is too large for float32")
    return latent


def resolve_label(
    label: Label | None, spec: GeneratorSpec, field: str, where: str, has_seed: bool
) -> ResolvedLabel | None:
    """Return the class or class weights that `label` names; None if the seed decides, or the model is unconditional.

    Raises ApiError 400 with `field`; its message begins with `where`.
    """
    classes = spec.condition
    if not isinstance(classes, ClassCondition):
        if label is not None:
            raise invalid(field, f"{where}: this model is unconditional and takes no label")
        return None
    if label is None:
        if not has_seed:
            raise invalid(field, f"{where}: a latent has no class; give a label with it")
        return None
    try:
        if isinstance(label, dict):
            return _class_weights(label, classes)
        return classes.index(label)
    except ValueError as problem:
        raise invalid(field, f"{where}: {problem}") from problem


def _class_weights(mixture: dict[str, float], classes: ClassCondition) -> Vector:
    total = math.fsum(mixture.values())
    if not math.isclose(total, 1.0, abs_tol=1e-4):
        raise ValueError("the weights of the classes must add up to 1")
    weights = np.zeros(len(classes.names), dtype=np.float32)
    divisor = 1.0 if math.isclose(total, 1.0, abs_tol=_ROUNDING) else total
    for name, weight in mixture.items():
        weights[classes.index(name)] = weight / divisor
    return weights
