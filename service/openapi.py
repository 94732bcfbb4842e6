"""What the API is, as an OpenAPI document: made from the schemas that check requests, and from what is answered.

BentoML makes one of its own, from the declarations for its clients, which knows neither our errors nor raw answers.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from latentd.models.outputs import Output, animation
from latentd.service.endpoints import ENDPOINTS, Endpoint
from latentd.service.negotiate import EVENTS, JSON
from latentd.service.protocols import kserve, openai

_Schema = dict[str, Any]

_ERRORS = {
    400: "a field is not what it should be; `field` names it",
    401: "a token is wanted, or the one that was sent is not known",
    403: "this token may not do that",
    404: "there is no such model, or not in that version",
    406: "`Accept` names nothing that this request can give",
    408: "the body did not come in time",
    413: "the body is larger than the service takes",
    414: "the URL is too long",
    415: "the body is called something else than JSON",
    429: "there is no room just now; `Retry-After` says when there may be",
    431: "the headers are too many, or too large",
    500: "our fault; the log has it",
    503: "the service is about to stop, or this model cannot be loaded again",
    504: "not done within the time that the service or `X-Request-Timeout` allows",
}
_OF_HTTP = {400: "this is not HTTP", 408: "the headers did not come in time", 414: _ERRORS[414], 431: _ERRORS[431]}
"""What any request can come to, before it is known which one it is."""
_OF_ALL_MODELS = (401, 403, 500)
_OF_A_MODEL = (401, 403, 404, 500)

_TEMPLATE = "#/components/schemas/{model}"
_TEXT: _Schema = {"type": "string"}
_WHOLE: _Schema = {"type": "integer", "minimum": 0}
_SEED: _Schema = {"type": ["integer", "null"], "description": "null for a sample that is no seed's"}
_LABEL: _Schema = {"type": ["string", "object"], "description": "the class's name, or the shares of several"}
_DATA: _Schema = {"type": ["string", "array"], "description": "base64, or in format json the numbers themselves"}
_BYTES: _Schema = {"type": "string", "format": "binary"}
_REQUEST_ID: _Schema = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "what the log calls the request, if it is 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`",
    "schema": _TEXT,
}
_OPEN: _Schema = {"security": []}
"""Needs no token."""


async def show_document(_: object, request: Request) -> Response:
    """`GET /docs.json`."""
    del request
    return JSONResponse(document())


@cache
def document() -> _Schema:
    """OpenAPI 3.1."""
    bodies = [(endpoint.body, "validation") for endpoint in ENDPOINTS]
    _, schemas = models_json_schema(bodies, ref_template=_TEMPLATE)  # type: ignore[arg-type]  # a literal
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "latentd",
            "version": version("latentd"),
            "description": "Latents go in, samples come out. A sample is named by model version, seed and parameters; "
            "its name gives the same bytes in any batch.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "security": [{}, {"token": []}],
        "paths": {endpoint.path: {"post": _samples(endpoint)} for endpoint in ENDPOINTS}
        | _of_models()
        | _of_kserve()
        | _of_openai()
        | _of_service(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: _null_is_absent(schema) for name, schema in schemas["$defs"].items()}
            | _of_protocols()
            | _answers(),
        },
    }


def _samples(endpoint: Endpoint) -> _Schema:
    return {
        "operationId": endpoint.path.strip("/"),
        "summary": endpoint.summary,
        "tags": ["samples"],
        "parameters": [
            _REQUEST_ID,
            {
                "name": "X-Request-Timeout",
                "in": "header",
                "description": "seconds after which the request is given up, if less than the service's own",
                "schema": {"type": "number", "exclusiveMinimum": 0},
            },
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": _reference(endpoint.body)}}},
        "responses": {
            "200": _response(
                "in the envelope that `Accept` chose",
                _envelopes(endpoint),
                *(
                    f"X-Latentd-{name}"
                    for name in ("Model", "Version", "Fingerprint", "Seeds", "Directions", "Request")
                ),
            ),
            **_errors(_ERRORS),
        },
    }


def _envelopes(endpoint: Endpoint) -> _Schema:
    media_types = {each for kind in get_args(get_args(Output)[0]) for each in kind.media_types.values()}
    content: _Schema = {JSON: {"schema": {"$ref": "#/components/schemas/Samples"}}}
    if endpoint.animations:
        media_types |= set(animation.MEDIA_TYPES.values())
        content[EVENTS] = {"schema": _TEXT}
    return content | {each: {"schema": _BYTES} for each in sorted(media_types - {JSON})}


def _of_models() -> _Schema:
    def facts(path: str, name: str, summary: str, errors: Iterable[int]) -> _Schema:
        content = {JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        return {path: {"get": _get(path, name.lower(), "models", summary, content, errors)}}

    return {
        **facts("/models", "Models", "what is served, and which files are not", _OF_ALL_MODELS),
        **facts("/models/{name}", "Model", "a model's card, limits and determinism", _OF_A_MODEL),
        **facts(
            "/models/{name}/directions", "Directions", "the directions that a model can be moved along", _OF_A_MODEL
        ),
        **facts(
            "/models/{name}/surface",
            "DecisionSurface",
            "what the discriminator of a model of 2-D points thought",
            _OF_A_MODEL,
        ),
    }


def _of_protocols() -> _Schema:
    """What other servers' clients send, and the shapes of their errors."""
    bodies: Any = [(body, "validation") for body in (kserve.InferRequest, openai.ImagesRequest)]
    _, schemas = models_json_schema(bodies, ref_template=_TEMPLATE)
    or_null = {"type": ["string", "null"]}
    return {
        **schemas["$defs"],
        "InferError": _object({"error": _TEXT}),
        "ImagesError": _object({"error": _object({"message": _TEXT, "type": _TEXT, "param": or_null, "code": _TEXT})}),
    }


def _of_kserve() -> _Schema:
    """The Open Inference Protocol, whose schemas are its own."""
    paths = {
        path: _foreign("get", path, "as the Open Inference Protocol has it") for path in kserve.OPEN | kserve.SHOWN
    }
    for path in kserve.SAMPLES:
        paths[path] = _foreign("post", path, "samples as a tensor", kserve.InferRequest)
    return paths


def _of_openai() -> _Schema:
    paths = {path: _foreign("get", path, "models, as OpenAI's clients ask for them") for path in openai.SHOWN}
    for path in openai.SAMPLES:
        paths[path] = _foreign("post", path, "images, as OpenAI's clients ask for them", openai.ImagesRequest)
    return paths


def _foreign(method: str, path: str, summary: str, body: type[BaseModel] | None = None) -> _Schema:
    """A route of a foreign protocol, whose errors have the protocol's shape once it is known that they are its."""
    error = {"$ref": _reference_to("InferError" if path.startswith("/v2") else "ImagesError")}
    ours = {"$ref": _reference_to("Error")}
    described = _get(
        path, path.strip("/").translate(str.maketrans("/", "_", "{}")), "other clients", summary, {JSON: {}}, ()
    )
    described["responses"] |= {
        "400": _response("not what the protocol takes, or not HTTP", {JSON: {"schema": {"anyOf": [error, ours]}}}),
        "default": _response("the protocol's error", {JSON: {"schema": error}}),
    }
    if body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(body)}}}
    return {method: described | (_OPEN if path in kserve.OPEN else {})}


def _of_service() -> _Schema:
    def probe(name: str, summary: str) -> _Schema:
        return _get(f"/{name}", name, "service", summary, {"text/plain": {"schema": _TEXT}}, (503,)) | _OPEN

    def page(path: str, name: str, summary: str, errors: Iterable[int], *media_types: str) -> _Schema:
        content = {each: {"schema": {} if each == JSON else _TEXT} for each in media_types}
        return _get(path, name, "pages", summary, content, errors) | _OPEN

    metrics = _get("/metrics", "metrics", "service", "Prometheus's", {"text/plain": {"schema": _TEXT}}, (401, 403, 500))
    part, kinds = "/explore/{build}/{name}", ("text/css", "text/javascript", "image/svg+xml")
    return {
        "/livez": {"get": probe("livez", "whether the process lives")},
        "/readyz": {"get": probe("readyz", "whether there is a model to serve")},
        "/healthz": {"get": probe("healthz", "as /livez")},
        "/metrics": {"get": metrics},
        "/docs.json": {"get": page("/docs.json", "document", "this document", (500,), JSON)},
        "/schema.json": {"get": page("/schema.json", "bentoml", "for BentoML's clients", (500,), JSON)},
        "/": {"get": page("/", "swagger", "BentoML's page about this document", (500,), "text/html")},
        "/explore": {"get": page("/explore", "explore", "a page to play with models", (500,), "text/html")},
        part: {"get": page(part, "explore_part", "what that page consists of", (404, 500), *kinds)},
    }


def _get(path: str, name: str, tag: str, summary: str, content: _Schema, errors: Iterable[int]) -> _Schema:
    in_path = [
        {"name": each, "in": "path", "required": True, "schema": _TEXT} for each in re.findall(r"\{(\w+)\}", path)
    ]
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "parameters": [*in_path, _REQUEST_ID],
        "responses": {"200": _response(summary, content), **_errors(errors)},
    }


def _errors(statuses: Iterable[int]) -> _Schema:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    headers = {401: ["WWW-Authenticate"], 403: ["WWW-Authenticate"], 429: ["Retry-After"]}
    described = _OF_HTTP | {status: _ERRORS[status] for status in statuses}
    return {
        str(status): _response(description, content, *headers.get(status, ()))
        for status, description in sorted(described.items())
    }


def _response(description: str, content: _Schema, *headers: str) -> _Schema:
    sent = {name: {"schema": _TEXT} for name in (*headers, _REQUEST_ID["name"])}
    return {"description": description, "headers": sent, "content": content}


def _answers() -> _Schema:
    """The schemas of what is answered in JSON."""
    sample = _object(
        {"index": _WHOLE, "data": _DATA},
        seed=_SEED,
        label=_LABEL,
        neighbor_seed=_WHOLE,
        seeds={"type": "array", "items": _SEED},
        labels={"type": "array"},
    )
    model = _object(
        {
            **dict.fromkeys(("name", "version"), _TEXT),
            "directions_version": {"type": ["string", "null"]},
            "surface": {"type": "boolean"},
            "formats": {"type": "array", "items": _TEXT},
            **{key: {"type": "object"} for key in ("films", "limits", "determinism", "card")},
        }
    )
    failure = _object({"file": _TEXT, "error": _TEXT})
    direction = _object(
        {
            **dict.fromkeys(("name", "method", "about", "scored"), _TEXT),
            **{key: {"type": "number"} for key in ("score", "range")},
            "preview": {"type": ["string", "null"], "description": "a strip of pictures: PNG in base64"},
        }
    )
    row = {"type": "array", "items": {"type": "number"}}
    return {
        "Error": _object({"error": _object({"code": _TEXT, "message": _TEXT, "field": {"type": ["string", "null"]}})}),
        "Samples": _object(
            {**dict.fromkeys(("model", "version", "format"), _TEXT), "samples": {"type": "array", "items": sample}},
            directions_version=_TEXT,
        ),
        "Model": model,
        "Models": _object(
            {
                "default": {"type": ["string", "null"]},
                "models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
                "failures": {"type": "array", "items": failure},
            }
        ),
        "Directions": _object(
            {
                **dict.fromkeys(("model", "version", "space"), _TEXT),
                "directions_version": {"type": ["string", "null"]},
                "directions": {"type": "array", "items": direction},
            }
        ),
        "DecisionSurface": _object(
            {
                **dict.fromkeys(("model", "version"), _TEXT),
                "extent": row | {"minItems": 4, "maxItems": 4},
                "values": {"type": "array", "items": row},
            }
        ),
    }


def _object(required: _Schema, **others: _Schema) -> _Schema:
    return {
        "type": "object",
        "properties": required | others,
        "required": list(required),
        "additionalProperties": False,
    }


def _reference(body: type[BaseModel]) -> _Schema:
    return {"$ref": _reference_to(body.__name__)}


def _reference_to(schema: str) -> str:
    return _TEMPLATE.format(model=schema)


def _null_is_absent(schema: _Schema) -> _Schema:
    """A body's schema, in which any field may be null."""
    return schema | {"properties": {name: _or_null(each) for name, each in schema["properties"].items()}}


def _or_null(schema: _Schema) -> _Schema:
    kinds = schema.get(
        "anyOf", [{name: value for name, value in schema.items() if name not in ("default", "description")}]
    )
    if {"type": "null"} in kinds:
        return schema
    return {"anyOf": [*kinds, {"type": "null"}], "description": schema.get("description", "")}
