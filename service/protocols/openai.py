"""The part of OpenAI's API that image clients use: generate and edit images, and list models.

https://platform.openai.com/docs/api-reference/images/create
"""

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from latentd.models.encoding.animation import MAX_PIXELS, MAX_SIDE
from latentd.service.catalog import ServedModel
from latentd.service.content_negotiation import JSON
from latentd.service.errors import ApiError, ErrorBody, invalid, raise_invalid
from latentd.service.form_body import is_form, parse_form
from latentd.service.guard.multipart import MULTIPART
from latentd.service.queries.generate import generate_query
from latentd.service.queries.translate import translate_query
from latentd.service.request_schemas import MAX_PICTURES, MAX_SCALE, Count, GenerateRequest, Seed, TranslateRequest
from latentd.service.response_schemas import Answer, MayBeAbsent
from latentd.service.route import Route
from latentd.service.runtime import Runtime
from latentd.service.samples.handler import FinishedJob, ParsedRequest, ToQuery, parse_json, sample_handler

_PARAMETERS = {"num_samples": "n", "label": "prompt", "images": "image", "format": "output_format"}
"""The names that fields of `/generate` have here."""
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_MAX_PROMPT = 32_000
_FILES = {"image": "image", "image[]": "image", "mask": "mask"}
_NAMES = ("seed", "image_sha256")
"""The fields of a sample that identify its input."""


class _ImagesBody(BaseModel):
    """The fields that requests for images share. A field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    prompt: Annotated[str, Field(max_length=_MAX_PROMPT)] = Field(
        description="the name of a class, or a text with exactly one in it; ignored if the model is unconditional"
    )
    model: str | None = Field(None, description="`name` or `name@version`; default: the catalog's default model")
    n: Count | None = Field(None, description="how many images; default 1")
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = Field(
        None, description="`auto` (default): the model's own; WIDTHxHEIGHT: enlarged by a whole factor"
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="default png")
    response_format: Literal["b64_json", "url"] | None = Field(None, description="only b64_json is possible")
    stream: Literal[False] | None = Field(None, description="images are not sent in parts")
    partial_images: Literal[0] | None = Field(None, description="images are not sent in parts")
    background: Literal["auto", "opaque"] | None = Field(None, description="images have no transparent parts")
    quality: str | None = Field(None, description="ignored: a sample has one quality")
    style: str | None = Field(None, description="ignored")
    moderation: str | None = Field(None, description="ignored")
    user: str | None = Field(None, description="ignored")
    safety_identifier: str | None = Field(None, description="ignored")


class ImagesRequest(_ImagesBody):
    """`POST /v1/images/generations`."""

    seed: Seed | None = Field(None, description="seed of the first image; the next ones count up; default: drawn")
    truncation: float | None = Field(
        None, description="ψ: scales latents toward their mean; default 1, which leaves them unchanged"
    )


class EditsRequest(_ImagesBody):
    """`POST /v1/images/edits`, a form. `image` may be there several times, also as `image[]`; each gives one image."""

    image: Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES, fail_fast=True)] = Field(
        description="files: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
    )
    mask: list[str] | None = Field(None, description="refused: these models change whole pictures")
    input_fidelity: str | None = Field(None, description="ignored")


class ImagesErrorFields(Answer):
    """An error, and the request's field that it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ImagesError(ErrorBody):
    """`{"error": {"message", "type", "param", "code"}}`."""

    error: ImagesErrorFields

    @classmethod
    def of(cls, problem: ApiError) -> Self:
        other = "server_error" if problem.status >= 500 else "invalid_request_error"
        kind = _ERROR_TYPES.get(problem.status, other)
        param = _PARAMETERS.get(problem.field or "", problem.field)
        message = problem.message_for(param)  # OpenAI's package prints only the message
        return cls(error=ImagesErrorFields(message=message, type=kind, param=param, code=problem.code))


class ModelEntry(Answer):
    """`GET /v1/models/{name}`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Answer):
    """`GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelEntry]


class ImageEntry(Answer):
    """An image: a file in base64, its seed or the hash of its picture, and the condition that the prompt named."""

    b64_json: str
    seed: MayBeAbsent[int]
    image_sha256: MayBeAbsent[str]
    revised_prompt: MayBeAbsent[str]


class ImagesAnswer(Answer):
    """`POST /v1/images/generations`."""

    created: int
    data: list[ImageEntry]
    output_format: str
    size: str
    model: str


async def list_models(runtime: Runtime, request: Request) -> ModelList:
    """Return all models."""
    del request
    models = runtime.catalog.models
    return ModelList(object="list", data=[_describe(models[name]) for name in sorted(models)])


async def show_model(runtime: Runtime, request: Request) -> ModelEntry:
    """Return a model."""
    return _describe(runtime.catalog.find(request.path_params["name"]))


def _describe(model: ServedModel) -> ModelEntry:
    created = int(datetime.fromisoformat(model.card.created).timestamp())
    return ModelEntry(id=model.name, object="model", created=created, owned_by="latentd")


def parse(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """Make the query that `/generate` makes from the seed, and from the condition that the prompt names."""
    del request
    images_request = parse_json(ImagesRequest, body, runtime)
    fields = {"num_samples": images_request.n, "seed": images_request.seed, "truncation": images_request.truncation}
    return _build_parsed_request(images_request, runtime, GenerateRequest, fields, generate_query)


def parse_edit(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """Make the query that `/translate` makes from the pictures, and from the condition that the prompt names."""
    if not is_form(request):
        raise ApiError(415, "unsupported_media_type", f"send the body as a form, with Content-Type: {MULTIPART}")
    images_request = parse_form(EditsRequest, request, body, runtime.settings.max_samples, _FILES)
    if images_request.mask is not None:
        raise invalid("mask", "masks are not supported: the models here change whole pictures")
    if images_request.n not in (None, 1):
        raise invalid("n", "a picture has one result; send it once for each model that should change it")
    return _build_parsed_request(
        images_request, runtime, TranslateRequest, {"images": images_request.image}, translate_query
    )


def _build_parsed_request(
    images_request: _ImagesBody, runtime: Runtime, body_type: type[BaseModel], fields: dict[str, Any], to_query: ToQuery
) -> ParsedRequest:
    """Make a query with `to_query`, from `fields` and from what both bodies have in common."""
    if images_request.response_format == "url":
        raise invalid("response_format", "images are not stored and have no URL; ask for b64_json")
    model = runtime.catalog.find(images_request.model)
    spec = model.card.spec
    own_size = spec.output.picture_size
    if own_size is None:
        raise invalid("model", f"{model.name} makes {spec.output.kind}, not images; use POST /generate")
    fields |= {"model": model.reference, "format": images_request.output_format or "png"}
    if (field := spec.condition.field) is not None:
        try:
            fields[field] = spec.condition.from_prompt(images_request.prompt)
        except ValueError as problem:
            raise invalid("prompt", str(problem)) from problem
    try:
        body = body_type(**fields)
    except ValidationError as problem:
        raise_invalid(problem, body_type)
    query = to_query(body, JSON, runtime.catalog, runtime.settings)
    return ParsedRequest(replace(query, scale=_scale(images_request.size, own_size, query.num_samples)), _respond)


def _scale(size: str | None, own_size: tuple[int, int], count: int) -> int:
    """Return the integer factor that enlarges `count` images to `size`. Raises ApiError 400 if there is none."""
    if size is None or size == "auto":
        return 1
    width, height = map(int, size.split("x"))
    own_height, own_width = own_size
    scale = width // own_width
    sizes = [(own_width * each, own_height * each) for each in range(1, MAX_SCALE + 1)]
    possible = [f"{w}x{h}" for w, h in sizes if max(w, h) <= MAX_SIDE]
    if f"{width}x{height}" not in possible:
        raise invalid("size", f"an image can only be enlarged by whole factors: {', '.join(possible)} or auto")
    if scale > 1 and count * width * height > MAX_PIXELS:
        most = MAX_PIXELS // (width * height)
        raise invalid("size", f"{count} images of {size}; a request may ask for at most {most} of that size")
    return scale


async def _respond(finished: FinishedJob) -> Response:
    body = await asyncio.to_thread(_in_json, finished)  # it can be long
    return Response(body, media_type=JSON, headers=finished.headers)


def _in_json(finished: FinishedJob) -> bytes:
    query = finished.job.batch.query
    images = []
    for sample in orjson.loads(finished.body)["samples"]:
        image = {"b64_json": sample["data"]} | {name: sample[name] for name in _NAMES if name in sample}
        prompt = sample.get(query.spec.condition.field)
        images.append(image if prompt is None else image | {"revised_prompt": prompt})
    _, height, width = query.spec.output.shape
    return orjson.dumps(
        {
            "created": int(time.time()),
            "data": images,
            "output_format": query.response_format.format,
            "size": f"{width * query.scale}x{height * query.scale}",
            "model": query.model.reference,
        }
    )


_route = partial(Route, tag="other clients", error_body=ImagesError)

ROUTES = (
    _route(
        method="GET",
        path="/v1/models",
        summary="List the models for OpenAI's clients",
        handler=list_models,
        answers={JSON: ModelList},
    ),
    _route(
        method="GET",
        path="/v1/models/{name}",
        summary="Show a model to OpenAI's clients",
        handler=show_model,
        answers={JSON: ModelEntry},
    ),
    _route(
        method="POST",
        path="/v1/images/generations",
        summary="Generate images for OpenAI's clients",
        handler=sample_handler(parse),
        body=ImagesRequest,
        answers={JSON: ImagesAnswer},
    ),
    _route(
        method="POST",
        path="/v1/images/edits",
        summary="Translate pictures for OpenAI's clients",
        handler=sample_handler(parse_edit, (MULTIPART,), on_thread=True),
        body=EditsRequest,
        body_types=(MULTIPART,),
        answers={JSON: ImagesAnswer},
    ),
)
