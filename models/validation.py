"""Pydantic's errors as messages for people."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from latentd.models.suggestions import unknown_field


class Problem(NamedTuple):
    """A wrong field and what is wrong with it."""

    field: str | None
    """Its path, joined by dots; None for the whole input."""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> Problem:
    """Return the first of the problems.

    `model`: the model that was validated. With it, the message for an unknown field lists the known fields, unless that
    part of the input may be of several models.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location = first["loc"]
    field = ".".join(map(str, location)) or None
    if first["type"] != "extra_forbidden":
        return Problem(field, first["msg"].removeprefix("Value error, "))
    known = [] if model is None else _fields_beside(location, model)
    return Problem(field, unknown_field(str(location[-1]), known) if known else "unknown field")


def _fields_beside(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """Return the known fields at `location`, where one is unknown; empty if that is not clear."""
    models = [model]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if inner := [each.model_fields[part].annotation for each in models if part in each.model_fields]:
            models = [each for annotation in inner for each in _models_in(annotation)]
        elif tagged := [each for each in models if _has_tag(each, part)]:
            models = tagged
    return list(models[0].model_fields) if len(models) == 1 else []


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    """Yield the models that a field's annotation allows, also within lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Return whether a field of the model may have the literal value `tag`, which then is its tag in a union."""
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())
