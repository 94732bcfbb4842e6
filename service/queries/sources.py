"""Sources: the inputs that a request names by seed or gives itself, with their conditions."""

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
    """An input of a request, with its condition."""

    origin: int | Rows
    """A seed, or the input [*spec.input.shape] itself."""
    condition: Rows | None
    """[spec.condition.size]; None: the seed's condition, or a model without one."""
    file_name: Mapping[str, Any] | None = None
    """The fields that name the input if it was read from a file."""

    @property
    def seed(self) -> int | None:
        """The seed; None if the request gives the input itself."""
        return self.origin if isinstance(self.origin, int) else None

    def name(self, kind: InputKind) -> Provenance:
        """Return the fields that name the input: its seed, its file, or the input itself."""
        if isinstance(self.origin, int):
            return {"seed": self.origin}
        return kind.provenance(self.origin) if self.file_name is None else dict(self.file_name)


class ErrorLocation(NamedTuple):
    """A part of a request: the field that errors name, and the words that their messages begin with."""

    field: str
    where: str

    def wrong(self, problem: object) -> ApiError:
        """Return the 400 for a problem here."""
        return invalid(self.field, f"{self.where} {problem}")


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


def resolve_sources(points: Sequence[LatentPoint], request: OpenBody, spec: GeneratorSpec, field: str) -> list[Source]:
    """Resolve each point of a request's `field`. `request` has the condition of points that name none.

    Raises ApiError 400, whose message says which point is wrong.
    """
    sources = []
    shared = condition_value(request, spec)
    for index, point in enumerate(points):
        at = ErrorLocation(field, f"{field}[{index}]")
        origin: int | Rows
        if point.seed is not None and point.latent is None:
            origin = point.seed
        elif point.latent is not None and point.seed is None:
            origin = parse_input(point.latent, spec, at)
        else:
            raise at.wrong("needs either a seed or a latent")
        value = condition_value(point, spec, at)
        if value is None and shared is not None:
            value, at = shared, _condition_at(spec)
        sources.append(Source(origin, resolve_condition(value, spec, at, has_seed=point.latent is None)))
    return sources


def parse_input(value: Any, spec: GeneratorSpec, at: ErrorLocation) -> Rows:
    """Return an input [*spec.input.shape] that a request gives. Raises ApiError 400."""
    try:
        return spec.input.parse(value)
    except ValueError as problem:
        raise at.wrong(problem) from problem


def condition_value(body: OpenBody, spec: GeneratorSpec, at: ErrorLocation | None = None) -> Any:
    """Return the value of the field that carries the model's condition; None if the body leaves it open.

    Raises ApiError 400 if the body has a field of another kind of condition. `at`: where the body is in the request.
    """
    field = spec.condition.field
    label = getattr(body, "label", None)  # the one condition that bodies declare
    if field != "label" and label is not None:
        takes = "is unconditional and takes no label" if field is None else f"takes {field}, and no label"
        raise (at or ErrorLocation("label", "label")).wrong(f"is wrong here: this model {takes}")
    return label if field == "label" else (body.model_extra or {}).get(field or "")


def resolve_condition(value: Any, spec: GeneratorSpec, at: ErrorLocation | None, has_seed: bool) -> Rows | None:
    """Return the row of a condition as a request gives it; None if the seed decides, or the model takes none.

    Raises ApiError 400 if there is no such condition, or if neither the request nor a seed names one.
    """
    at = at or _condition_at(spec)
    if value is None:
        if spec.condition.size and not has_seed:
            raise at.wrong(f"needs a {spec.condition.field}: without a seed, no {spec.condition.field} is drawn")
        return None
    try:
        return spec.condition.parse(value)
    except ValueError as problem:
        raise invalid(at.field, f"{at.where}: {problem}") from problem


def resolve_conditions(request: OpenBody, spec: GeneratorSpec, count: int, has_seed: bool) -> Sequence[Rows | None]:
    """Return the condition of each of `count` samples: a request has one for all, or a list with one for each."""
    value, at = condition_value(request, spec), _condition_at(spec)
    if not isinstance(value, list):
        return [resolve_condition(value, spec, at, has_seed)] * count
    if len(value) != count:
        raise invalid(at.field, f"{len(value)} {at.field}s for {count} samples; give one {at.field}, or one per sample")
    return [resolve_condition(each, spec, at, has_seed) for each in value]


def _condition_at(spec: GeneratorSpec) -> ErrorLocation:
    field = spec.condition.field or ""
    return ErrorLocation(field, field)
