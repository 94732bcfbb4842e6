"""The fields and operations of a model, and checks that a request uses no others."""

from collections.abc import Iterable, Mapping
from typing import Any

from latentd.models.families import controls_of
from latentd.models.inputs.base import Operation
from latentd.models.spec import GeneratorSpec
from latentd.models.suggestions import unknown_field
from latentd.service.catalog import ServedModel
from latentd.service.errors import invalid
from latentd.service.request_schemas import OpenBody, SamplesRequest

_TRUNCATION = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1}


def model_fields(model: ServedModel) -> dict[str, Any]:
    """Return the fields of requests that depend on the model, each with its JSON schema."""
    spec = model.card.spec
    fields = spec.input.describe() | spec.condition.describe()
    if "truncate" in spec.input.operations:
        fields["truncation"] = _TRUNCATION
    if model.directions:
        amounts = {name: {"type": "number"} for name in model.directions.names}
        fields["directions"] = {"type": "object", "properties": amounts, "additionalProperties": False}
    for control in controls_of(spec):
        fields[control.name] = {
            "type": "number",
            "minimum": control.minimum,
            "maximum": control.maximum,
            "default": control.default,
        }
    return fields


def require_operation(model: ServedModel, operation: Operation, field: str = "model") -> None:
    """Raise ApiError 400 if the model does not have `operation`. The message lists its operations."""
    operations = model.card.spec.input.operations
    if operation not in operations:
        has = ", ".join(sorted(operations))
        raise invalid(field, f"{model.name} does not have the operation {operation}; it has {has}")


def require_known_fields(
    model: ServedModel, request: SamplesRequest, points: Iterable[OpenBody] = (), at: str = ""
) -> None:
    """Raise ApiError 400 if `request`, or one of the `points` in its field `at`, has a field that the model lacks."""
    spec = model.card.spec
    condition = {spec.condition.field}
    _require_known(request, condition | {control.name for control in controls_of(spec)}, "")
    for index, point in enumerate(points):
        _require_known(point, condition, f"{at}.{index}")
    if request.truncation is not None:
        require_operation(model, "truncate", "truncation")
    if request.directions:
        require_operation(model, "directions", "directions")


def _require_known(body: OpenBody, known: set[str | None], at: str) -> None:
    for name in body.model_extra or {}:
        if name not in known:
            where = f" (at {at.partition('.')[2]}.{name})" if at else ""
            fields = [*type(body).model_fields, *sorted(filter(None, known - type(body).model_fields.keys()))]
            raise invalid(at.partition(".")[0] or name, f"{unknown_field(name, fields)}{where}")


def control_values(request: SamplesRequest, spec: GeneratorSpec) -> dict[str, float]:
    """Return the value of each of the model's controls. Raises ApiError 400 if one is out of range."""
    given: Mapping[str, Any] = request.model_extra or {}
    values = {}
    for control in controls_of(spec):
        value = given.get(control.name)
        if value is None:
            value = control.default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not control.minimum <= value <= control.maximum
        ):
            raise invalid(control.name, f"{control.name} is a number from {control.minimum:g} to {control.maximum:g}")
        values[control.name] = float(value)
    return values
