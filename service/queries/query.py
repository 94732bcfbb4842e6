"""A valid request for samples: which inputs they have, and in which form they are sent."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from latentd.models.encoding.animation import AnimationOptions
from latentd.models.families import controls_of
from latentd.models.inputs.base import Space
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows
from latentd.service.catalog import ServedModel
from latentd.service.content_negotiation import ResponseFormat
from latentd.service.errors import invalid
from latentd.service.queries.direction_edit import EDIT_FIELDS, DirectionEdit
from latentd.service.queries.sources import Source
from latentd.service.request_schemas import SamplesRequest


class RowTransform(ABC):
    """A pure function from the rows of K sources to the rows of N samples."""

    @abstractmethod
    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        """Map the sources' inputs [K, ...], or rows of a later space such as w, to the samples' [N, ...].

        Raises NoDirectionError if a row without direction needs one, or if weights cancel each other.
        """

    @abstractmethod
    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        """Map the sources' conditions [K, size] to the samples' [N, size]."""

    @abstractmethod
    def source_of(self, sample: int) -> int | None:
        """Return the source whose input and condition a sample has unchanged; None if there is none."""

    def answer_fields(self, sample: int) -> dict[str, Any]:
        """Return more fields of a sample in the answer, beside its index, its input and its condition."""
        del sample
        return {}


class Identity(RowTransform):
    """Each source is a sample, unchanged."""

    def inputs(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        del spec
        return sources

    def condition(self, sources: Rows, spec: GeneratorSpec) -> Rows:
        del spec
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
    """The field that errors name if the transform fails or a sample is not finite."""
    transform: RowTransform = field(default_factory=Identity)
    space: Space = "z"
    """The space in which the transform works. If it is not the space of a later stage, that is the input itself."""
    truncation: float = 1.0
    edit: DirectionEdit | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    """The value of each of the model's controls."""
    animation: AnimationOptions | None = None
    scale: int = 1
    """Integer factor by which each image is enlarged."""
    server_choices: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the request left out and the server chose, such as a drawn seed."""
    chunked: bool = False
    """Whether the samples are queued in chunks, because there may be more of them than the queue holds."""

    @cached_property
    def request(self) -> dict[str, Any]:
        """The body, with the choices of the server added. If it is sent again, the answer is the same."""
        left_out = set(self.server_choices)
        request = self.body.model_dump(exclude=left_out, exclude_none=True, exclude_unset=True)
        request |= self.server_choices
        for name in EDIT_FIELDS:
            request.pop(name, None)  # without amounts of 0
        request |= self.edit.fields if self.edit else {}
        request |= {"model": self.model.reference, "format": self.response_format.format}
        if (layout := self.response_format.chosen_layout) is not None:
            request["layout"] = layout
        declared = [name for name in type(self.body).model_fields if name in request]  # in a fixed order
        return {name: request[name] for name in (*declared, *sorted(request.keys() - set(declared)))}

    @property
    def spec(self) -> GeneratorSpec:
        """The spec of the model's generator."""
        return self.model.card.spec

    @cached_property
    def changed_controls(self) -> dict[str, float]:
        """The controls whose values are not the defaults."""
        defaults = {control.name: control.default for control in controls_of(self.spec)}
        return {name: value for name, value in self.controls.items() if value != defaults[name]}


def require_at_most(count: int, limit: int, field: str, what: str = "samples") -> None:
    """Raise ApiError 400 if a request asks for more than `limit`."""
    if count > limit:
        raise invalid(field, f"{count} {what}; a request may ask for at most {limit}")


def require_space(space: Space, spec: GeneratorSpec) -> None:
    """Raise ApiError 400 if the model does not have `space`."""
    if space not in spec.input.spaces:
        raise invalid("space", f"this model has no {space} space, only {', '.join(spec.input.spaces)}")
