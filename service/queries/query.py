"""A valid request: which latents its samples have, and in which form they are answered."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentd.models.latents import Latents
from latentd.models.outputs.animation import AnimationOptions
from latentd.models.spec import ClassCondition, GeneratorSpec
from latentd.service.catalog import ServedModel
from latentd.service.errors import invalid
from latentd.service.negotiate import ResponseFormat
from latentd.service.queries.direction_edit import EDIT_FIELDS, DirectionEdit
from latentd.service.queries.sources import Source
from latentd.service.schemas import SamplesRequest, Space

ClassWeights = NDArray[np.float32]
"""[N, classes]: one-hot rows, or mixtures of classes."""


class LatentTransform(ABC):
    """A pure function from the latents of K sources to the latents of N samples."""

    @abstractmethod
    def latents(self, sources: Latents) -> Latents:
        """Map latents [K, dim], or w [K, layers, dim], to those of the samples. Raises NoDirectionError."""

    @abstractmethod
    def class_weights(self, sources: ClassWeights) -> ClassWeights:
        """Map the sources' class weights [K, classes] to the samples' [N, classes]."""

    @abstractmethod
    def source_of(self, sample: int) -> int | None:
        """Return the source whose latent and class the sample has unchanged; None if there is none."""

    def answer_fields(self, sample: int) -> dict[str, Any]:
        """Return what the answer says about a sample beyond its index, seed and label."""
        del sample
        return {}


class Identity(LatentTransform):
    """Each sample has the latent of one source."""

    def latents(self, sources: Latents) -> Latents:
        return sources

    def class_weights(self, sources: ClassWeights) -> ClassWeights:
        return sources

    def source_of(self, sample: int) -> int | None:
        return sample


@dataclass(frozen=True)
class SampleQuery:
    """Everything that the samples' bytes and the form of the answer depend on."""

    endpoint: str
    body: SamplesRequest
    """The request's body, as it was sent."""
    model: ServedModel
    response_format: ResponseFormat
    sources: Sequence[Source]
    num_samples: int
    error_field: str
    """The field that an error names if the transform fails or a sample is not finite."""
    transform: LatentTransform = field(default_factory=Identity)
    space: Space = "z"
    """The space that the transform works in."""
    truncation: float = 1.0
    edit: DirectionEdit | None = None
    animation: AnimationOptions | None = None
    scale: int = 1
    """Integer factor that enlarges every image on its own."""
    server_choices: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the request left open and the server chose, such as a drawn seed."""
    chunked: bool = False
    """Whether the samples are queued in chunks, because there may be more of them than the queue holds."""

    @cached_property
    def request(self) -> dict[str, Any]:
        """The body with every choice of the server filled in. Sent again, it gives the same answer."""
        request = self.body.model_dump(exclude_none=True, exclude_unset=True) | dict(self.server_choices)
        for name in EDIT_FIELDS:
            request.pop(name, None)  # without amounts of 0
        request |= self.edit.fields if self.edit else {}
        request |= {"model": f"{self.model.name}@{self.model.version}", "format": self.response_format.format}
        if self.response_format.layout is not None:
            request["layout"] = self.response_format.layout
        return {name: request[name] for name in type(self.body).model_fields if name in request}  # in a fixed order

    @property
    def spec(self) -> GeneratorSpec:
        """The model's specification."""
        return self.model.card.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """The model's classes; empty if it is unconditional."""
        condition = self.spec.condition
        return condition.names if isinstance(condition, ClassCondition) else ()


def require_at_most(count: int, limit: int, field: str, what: str = "samples") -> None:
    """Raise ApiError 400 if a request asks for more than `limit`."""
    if count > limit:
        raise invalid(field, f"{count} {what}; a request may ask for at most {limit}")


def require_space(space: Space, spec: GeneratorSpec) -> None:
    """Raise ApiError 400 if the model does not have `space`."""
    if space == "w" and spec.input.w is None:
        raise invalid("space", "this model has no w space, only z")
