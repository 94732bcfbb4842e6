"""Forms as bodies of requests: files become base64, and texts become the numbers that the body's model wants."""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from latentd.service.errors import raise_invalid
from latentd.service.guard.body import media_type_of
from latentd.service.guard.multipart import MULTIPART, parse_multipart

_MAX_TEXT_PARTS = 64
_Body = TypeVar("_Body", bound=BaseModel)


def is_form(request: Request) -> bool:
    """Return whether the request's body is a form."""
    return media_type_of(request.headers.get("content-type", "")) == MULTIPART


def parse_form(
    body_type: type[_Body], request: Request, body: bytes, max_files: int, files: Mapping[str, str]
) -> _Body:
    """Parse a form into a `body_type`. `files`: name of a part that has files → the field that lists them.

    A field that occurs several times becomes a list. Raises ApiError 400, which names the wrong field.
    """
    fields: dict[str, Any] = {}
    texts: dict[str, list[Any]] = {}
    for part in parse_multipart(request.headers["content-type"], body, max_files + _MAX_TEXT_PARTS):
        if part.is_file or part.name in files:
            fields.setdefault(files.get(part.name, part.name), []).append(base64.b64encode(part.content).decode())
        else:
            text = part.content.decode(errors="replace")
            texts.setdefault(part.name, []).append(text if part.name in _text_fields(body_type) else _value(text))
    fields |= {name: values[0] if len(values) == 1 else values for name, values in texts.items()}
    try:
        return body_type.model_validate(fields)
    except ValidationError as problem:
        raise_invalid(problem, body_type)


def _value(text: str) -> Any:
    """Return the value of a text that is JSON, else the text itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


@cache
def _text_fields(body_type: type[BaseModel]) -> frozenset[str]:
    """Return the fields whose values are always text."""
    properties = body_type.model_json_schema()["properties"]
    types = {name: {each.get("type") for each in schema.get("anyOf", [schema])} for name, schema in properties.items()}
    return frozenset(name for name, kinds in types.items() if kinds <= {"string", "null"})
