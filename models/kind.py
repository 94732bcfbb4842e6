"""The registry of kinds: what goes into a generator, on what condition, and what comes out.

The kinds are the modules in `models/inputs/`, `models/conditions/` and `models/outputs/`, except for `base`. The name
of a module is the name of its kind, and it defines `KIND`. No other code branches on kinds.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from latentd.models.suggestions import unknown


class Kind(BaseModel):
    """A part of a generator's spec. The field `kind` is the name of the file that defines the class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str


def members(package: str, attribute: str) -> dict[str, Any]:
    """Return `attribute` of each module of `package` other than `base`, by the module's name."""
    path = importlib.import_module(package).__path__
    names = sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "base")
    return {name: getattr(importlib.import_module(f"{package}.{name}"), attribute) for name in names}


def kinds(package: str) -> dict[str, Any]:
    """Return the kinds in `package`, by name."""
    return members(package, "KIND")


@dataclass(frozen=True)
class AnyKindOf:
    """Annotates a field that holds a kind of `package`. The value's `kind` says which one, and is serialized with it.

    Use as `Annotated[OutputKind, AnyKindOf("latentd.models.outputs")]`.
    """

    package: str

    def __get_pydantic_core_schema__(self, source: type[Kind], handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object) -> Kind:
            if isinstance(value, source):
                return value
            if not isinstance(value, Mapping):
                raise ValueError("it is not a JSON object")
            known = kinds(self.package)
            name = value.get("kind")
            if not isinstance(name, str) or name not in known:
                raise ValueError(unknown("kind", name, known))
            found: Kind = known[name].model_validate(value)
            return found

        serialization = core_schema.simple_ser_schema("any")  # as SerializeAsAny: by the value's own class
        return core_schema.no_info_plain_validator_function(validate, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"oneOf": [handler(kind.__pydantic_core_schema__) for kind in kinds(self.package).values()]}
