"""The sources of a request: inputs that it names by seed or contains, with their conditions."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from latentd.models.inputs.base import InputKind
from latentd.models.provenance import Provenance
from latentd.models.seeds import MAX_SEED
from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import Rows
from latentd.service.errors import ApiError, invalid
from latentd.service.request_schemas import LatentPoint, OpenBody


@dataclass(frozen=True)
class Source:
    """One input of a request, with its condition."""

    origin: int | Rows
    """A seed, or the input itself, [*spec.input.shape]."""
    condition: Rows | None
    """[spec.condition.size]; None: the condition of the seed, or a model without a condition."""
    file_provenance: Mapping[str, Any] | None = None
    """The provenance of an input that was read from a file."""

    @property
    def seed(self) -> int | None:
        """The seed; None if the request contains the input itself."""
        return self.origin if isinstance(self.origin, int) else None

    def provenance(self, kind: InputKind) -> Provenance:
        """Return the fields that identify the input: its seed, the hash of its file, or the input itself."""
        if isinstance(self.origin, int):
            return {"seed": self.origin}
        return kind.provenance(self.origin) if self.file_provenance is None else dict(self.file_provenance)


class ErrorLocation(NamedTuple):
    """A part of a request: the field that its errors name, and the first words of their messages."""

    field: str
    where: str

    def error(self, problem: object) -> ApiError:
        """Return a 400 for a problem with this part."""
        return invalid(self.field, f"{self.where} {problem}")


def draw_seed(last: int = MAX_SEED) -> int:
    """Return a random seed from 0 to `last` that nobody can predict."""
    return secrets.randbelow(last + 1)


def consecutive_seeds(first: int | None, count: int, field: str, last_one: str) -> range:
    """Return `count` seeds that count up from `first`, or from a random seed if it is None.

    `last_one`: what errors call the last seed. Raises ApiError 400 if it is larger than MAX_SEED.
    """
    last_first = MAX_SEED - (count - 1)
    if first is None:
        first = draw_seed(last_first)
    if first > last_first:
        raise invalid(field, f"{last_one} would be {first + count - 1}, past {MAX_SEED}")
    return range(first, first + count)


def resolve_sources(points: Sequence[LatentPoint], request: OpenBody, spec: GeneratorSpec, field: str) -> list[Source]:
    """Return the source of each point in a request's `field`. Points without a condition take that of `request`.

    Raises ApiError 400, whose message says which point is wrong.
    """
    sources = []
    shared = condition_value(request, spec)
    for index, point in enumerate(points):
        location = ErrorLocation(field, f"{field}[{index}]")
        origin: int | Rows
        if point.seed is not None and point.latent is None:
            origin = point.seed
        elif point.latent is not None and point.seed is None:
            origin = parse_input(point.latent, spec, location)
        else:
            raise location.error("needs either a seed or a latent")
        value = condition_value(point, spec, location)
        if value is None and shared is not None:
            value, location = shared, _condition_location(spec)
        sources.append(Source(origin, resolve_condition(value, spec, location, has_seed=point.latent is None)))
    return sources


def parse_input(value: Any, spec: GeneratorSpec, location: ErrorLocation) -> Rows:
    """Return an input [*spec.input.shape] that a request contains. Raises ApiError 400 if it is not valid."""
    try:
        return spec.input.parse(value)
    except ValueError as problem:
        raise location.error(problem) from problem


def condition_value(body: OpenBody, spec: GeneratorSpec, location: ErrorLocation | None = None) -> Any:
    """Return the value of the field for the model's condition; None if the body does not have it.

    `location`: where the body is in the request. Raises ApiError 400 if the body has a label and the model takes none.
    """
    field = spec.condition.field
    label = getattr(body, "label", None)  # the only condition that the bodies' models declare
    if field != "label" and label is not None:
        takes = "is unconditional and takes no label" if field is None else f"takes {field}, and no label"
        raise (location or ErrorLocation("label", "label")).error(f"is wrong here: this model {takes}")
    return label if field == "label" else (body.model_extra or {}).get(field or "")


def resolve_condition(value: Any, spec: GeneratorSpec, location: ErrorLocation | None, has_seed: bool) -> Rows | None:
    """Return the row of a condition in a request; None if the seed has the condition, or if the model takes none.

    Raises ApiError 400 if the condition is not valid, or if it is missing and there is no seed.
    """
    location = location or _condition_location(spec)
    if value is None:
        if spec.condition.size and not has_seed:
            raise location.error(f"needs a {spec.condition.field}: without a seed, no {spec.condition.field} is drawn")
        return None
    try:
        return spec.condition.parse(value)
    except ValueError as problem:
        raise invalid(location.field, f"{location.where}: {problem}") from problem


def resolve_conditions(request: OpenBody, spec: GeneratorSpec, count: int, has_seed: bool) -> Sequence[Rows | None]:
    """Return the condition of each of `count` samples. A request has one for all, or a list with one for each."""
    value, location = condition_value(request, spec), _condition_location(spec)
    if not isinstance(value, list):
        return [resolve_condition(value, spec, location, has_seed)] * count
    if len(value) != count:
        raise invalid(
            location.field,
            f"{len(value)} {location.field}s for {count} samples; give one {location.field}, or one per sample",
        )
    return [resolve_condition(each, spec, location, has_seed) for each in value]


def _condition_location(spec: GeneratorSpec) -> ErrorLocation:
    field = spec.condition.field or ""
    return ErrorLocation(field, field)
