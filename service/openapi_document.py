"""The API as an OpenAPI document, made from the table of routes.

BentoML makes one of its own from the declarations for its clients. That one has neither our errors nor raw answers.
"""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from latentd.service.content_negotiation import JSON
from latentd.service.errors import ErrorAnswer
from latentd.service.route import Route

_Schema = dict[str, Any]
_Schemas = dict[tuple[Any, str], _Schema]
"""Schemas by type and mode."""

_ERRORS = {
    400: "the request is wrong; `field` names the field to change",
    401: "a token is needed, or the token that was sent is unknown",
    403: "the token is for something else",
    404: "the model, the version or the page does not exist",
    406: "`Accept` names nothing that this request can give",
    408: "the headers or the body did not come in time",
    413: "the body is larger than the service allows",
    414: "the URL is too long",
    415: "the body has a type that this route does not read",
    429: "the service has all the work that it can take; `Retry-After` says when to try again",
    431: "there are too many headers, or they are too large",
    500: "the service failed; its log says why",
    503: "the service is stopping, or the model cannot be loaded",
    504: "not done within the time that the service or `X-Request-Timeout` allows",
}
_OF_CONNECTION = (400, 408, 414, 431)
"""Statuses that are sent before the route of the request is known, so that every route has them."""
_OF_TOKENS = (401, 403)
_OF_SAMPLES = (404, 406, 413, 415, 429, 503, 504)
_ERROR_HEADERS = {401: ("WWW-Authenticate",), 403: ("WWW-Authenticate",), 429: ("Retry-After",)}

_TEXT: _Schema = {"type": "string"}
_REQUEST_ID: _Schema = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "the id of the request in the log: 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`",
    "schema": _TEXT,
}
_TIMEOUT: _Schema = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "seconds after which the answer is 504, if fewer than the service's own limit",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def document(routes: Iterable[Route]) -> _Schema:
    """Return the OpenAPI 3.1 document of `routes`."""
    routes = tuple(routes)
    bodies = {route.body for route in routes if route.body}
    answers = {kind for route in routes for kind in (*route.answers.values(), route.error_body)} | {ErrorAnswer}
    inputs: Any = [(kind, "validation", TypeAdapter(kind)) for kind in bodies]
    inputs += [(kind, "serialization", TypeAdapter(kind)) for kind in answers]
    schemas: Any
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    paths: dict[str, _Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "latentd",
            "version": version("latentd"),
            "description": "Latents go in, samples come out. The same model version, seed and parameters give the same "
            "bytes in any batch.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": definitions["$defs"],
        },
    }


def _operation(route: Route, schemas: _Schemas) -> _Schema:
    names = re.findall(r"\{(\w+)\}", route.path)
    answers = {kind: {"schema": schemas[answer, "serialization"]} for kind, answer in route.answers.items()}
    operation: _Schema = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names),
            _REQUEST_ID,
        ],
        "responses": {"200": _response("success", answers, route.headers), **_errors(route, schemas)},
    }
    if route.body is not None:
        operation["parameters"].append(_TIMEOUT)
        body = {kind: {"schema": schemas[route.body, "validation"]} for kind in route.body_types}
        operation["requestBody"] = {"required": True, "content": body}
    if route.access == "open":
        operation["security"] = []
    return operation


def _errors(route: Route, schemas: _Schemas) -> _Schema:
    """Return the responses other than success. Errors of the connection have our own shape on every route."""
    statuses = {
        *_OF_CONNECTION,
        500,
        *(() if route.access == "open" else _OF_TOKENS),
        *(() if route.body is None else _OF_SAMPLES),
        *route.errors,
    }
    own, ours = ({"schema": schemas[kind, "serialization"]} for kind in (route.error_body, ErrorAnswer))
    either = own if route.error_body is ErrorAnswer else {"schema": {"anyOf": [own["schema"], ours["schema"]]}}
    responses = {
        str(status): _response(
            _ERRORS[status], {JSON: either if status in _OF_CONNECTION else own}, _ERROR_HEADERS.get(status, ())
        )
        for status in sorted(statuses)
    }
    return responses if own is either else responses | {"default": _response("another error", {JSON: own})}


def _response(description: str, content: _Schema, headers: Iterable[str] = ()) -> _Schema:
    sent = {name: {"schema": _TEXT} for name in (*headers, _REQUEST_ID["name"])}
    return {"description": description, "headers": sent, "content": content}
