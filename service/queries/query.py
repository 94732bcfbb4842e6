"""A request that was found good: where its samples lie in latent space, and the shape of the answer."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from latentd.models.interpolation import Vector
from latentd.models.latents import MAX_SEED
from latentd.models.outputs.animation import AnimationOptions
from latentd.models.spec import ClassCondition, GeneratorSpec
from latentd.service.catalog import ServedModel
from latentd.service.errors import invalid
from latentd.service.negotiate import ResponseFormat
from latentd.service.queries.direction_edit import EDIT_FIELDS, DirectionEdit
from latentd.service.schemas import Label, LatentPoint, SamplesRequest, Space

_ROUNDING = 1e-6
"""Shares that were written down from float32 add up to 1 so nearly; they are to be read back as they were."""

Places = NDArray[np.float32]
"""Latents [N, dim], w [N, layers, dim], or class shares [N, classes]."""
Class = int | Vector
"""A class by index, or every class's share [classes]."""


class Source(NamedTuple):
    """A place that a request names: by seed or by latent, of which the other is None."""

    seed: int | None
    latent: Vector | None
    label: Class | None
    """None: from the seed, or unconditional."""


class LatentTransform(Protocol):
    """From the places that a request names to those of its samples. Pure."""

    def places(self, sources: Places) -> Places:
        """Sources' latents or w's [K, …] → samples' [N, …]. NoDirectionError where there is no such place."""
        ...

    def shares(self, sources: Places) -> Places:
        """Sources' class shares [K, classes] → samples' [N, classes]."""
        ...

    def source(self, sample: int) -> int | None:
        """The source that a sample lies on, whose name is therefore its name too."""
        ...

    def facts(self, sample: int) -> dict[str, Any]:
        """What the answer says of a sample beyond its index, seed and label."""
        ...


class PointwiseTransform:
    """A move that says nothing of its samples."""

    def facts(self, sample: int) -> dict[str, Any]:
        del sample
        return {}


class Identity(PointwiseTransform):
    """Samples lie where the sources do."""

    def places(self, sources: Places) -> Places:
        return sources

    def shares(self, sources: Places) -> Places:
        return sources

    def source(self, sample: int) -> int | None:
        return sample


@dataclass(frozen=True)
class SampleQuery:
    """All that a sample's bytes and the answer depend on."""

    endpoint: str
    body: SamplesRequest
    model: ServedModel
    response_format: ResponseFormat
    sources: Sequence[Source]
    num_samples: int
    error_field: str
    """The field that a client changes where the samples lead to nothing finite, or lie nowhere."""
    transform: LatentTransform = field(default_factory=Identity)
    space: Space = "z"
    truncation: float = 1.0
    edit: DirectionEdit | None = None
    projection: AnimationOptions | None = None
    scale: int = 1
    """Whole factor that enlarges each picture by itself."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the service chose, because nobody named them."""
    chunked: bool = False
    """Samples are queued a few at a time: there may be more than the queue holds."""

    @cached_property
    def request(self) -> dict[str, Any]:
        """What was asked, with everything named that the service chose: sent again, it gives the same answer."""
        request = self.body.model_dump(exclude_none=True, exclude_unset=True) | dict(self.chosen)
        for name in EDIT_FIELDS:
            request.pop(name, None)  # amounts of 0
        request |= self.edit.facts if self.edit else {}
        request |= {"model": f"{self.model.name}@{self.model.version}", "format": self.response_format.format}
        if self.response_format.layout is not None:
            request["layout"] = self.response_format.layout
        return {name: request[name] for name in type(self.body).model_fields if name in request}  # in one order

    @property
    def spec(self) -> GeneratorSpec:
        """The model's."""
        return self.model.card.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty for an unconditional model."""
        condition = self.spec.condition
        return condition.names if isinstance(condition, ClassCondition) else ()


def require_at_most(count: int, most: int, field: str, what: str = "samples") -> None:
    """ApiError 400 where a request asks for more than `most`."""
    if count > most:
        raise invalid(field, f"{count} {what}; a request may ask for at most {most}")


def draw_seed(last: int = MAX_SEED) -> int:
    """A seed that nobody can foresee, at most `last`."""
    return secrets.randbelow(last + 1)


def require_space(space: Space, spec: GeneratorSpec) -> None:
    """ApiError 400 where `spec` has no w."""
    if space == "w" and spec.input.w is None:
        raise invalid("space", "this model has no w; it has z alone")


def sources_of(places: Sequence[LatentPoint], label: Label | None, spec: GeneratorSpec, field: str) -> list[Source]:
    """What each place names; `label` is for those without a class. ApiError 400 names `field` and the place."""
    sources = []
    for index, place in enumerate(places):
        if (place.seed is None) == (place.latent is None):
            raise invalid(field, f"{field}[{index}] names a place by either a seed or a latent")
        latent = None if place.latent is None else latent_of(place.latent, spec, field, f"{field}[{index}]")
        if place.label is None and label is not None:
            found = class_of(label, spec, "label", "label", place.seed is not None)
        else:
            found = class_of(place.label, spec, field, f"{field}[{index}]", place.seed is not None)
        sources.append(Source(place.seed, latent, found))
    return sources


def latent_of(numbers: Sequence[float], spec: GeneratorSpec, field: str, where: str) -> Vector:
    """Numbers → a latent [dim]; ApiError 400 names `field`, and in words `where`."""
    if len(numbers) != spec.input.dim:
        raise invalid(field, f"{where} has {len(numbers)} numbers; this model takes {spec.input.dim}")
    with np.errstate(over="ignore"):
        latent = np.array(numbers, dtype=np.float32)
    if not np.isfinite(latent).all():
        raise invalid(field, f"{where} holds a number that is too large for float32")
    return latent


def class_of(label: Label | None, spec: GeneratorSpec, field: str, where: str, has_seed: bool) -> Class | None:
    """What `label` means to `spec`; None: nothing, or what the seed says.

    ApiError 400 names `field`, and in words `where`.
    """
    classes = spec.condition
    if not isinstance(classes, ClassCondition):
        if label is not None:
            raise invalid(field, f"{where}: this model is unconditional and takes no label")
        return None
    if label is None:
        if not has_seed:
            raise invalid(field, f"{where}: a latent names no class: give a label with it")
        return None
    try:
        if isinstance(label, dict):
            return _shares_of(label, classes)
        return classes.index(label)
    except ValueError as problem:
        raise invalid(field, f"{where}: {problem}") from problem


def _shares_of(blend: dict[str, float], classes: ClassCondition) -> Vector:
    total = math.fsum(blend.values())
    if not math.isclose(total, 1.0, abs_tol=1e-4):
        raise ValueError("the shares of the classes add up to 1")
    shares = np.zeros(len(classes.names), dtype=np.float32)
    whole = 1.0 if math.isclose(total, 1.0, abs_tol=_ROUNDING) else total
    for name, share in blend.items():
        shares[classes.index(name)] = share / whole
    return shares
