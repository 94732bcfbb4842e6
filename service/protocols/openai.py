"""The shape in which OpenAI's clients ask for images, and what they ask before: which models there are.

https://platform.openai.com/docs/api-reference/images/create
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from latentd.models.outputs.animation import MAX_PIXELS, MAX_SIDE
from latentd.models.outputs.image import ImageOutput
from latentd.models.spec import ClassCondition
from latentd.service.api import Answer, Handler, ParsedRequest, Runtime, answering, parsed
from latentd.service.catalog import ServedModel
from latentd.service.errors import invalid, raise_invalid
from latentd.service.negotiate import JSON
from latentd.service.queries.generate import generate_query
from latentd.service.schemas import MAX_SCALE, GenerateRequest, Seed

_PARAMETERS = {"num_samples": "n", "label": "prompt", "format": "output_format"}
"""What fields of `/generate` are called here."""
_LONGEST_PROMPT = 32_000


class ImagesRequest(BaseModel):
    """`POST /v1/images/generations`. A field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    prompt: Annotated[str, Field(max_length=_LONGEST_PROMPT)] = Field(
        description="a class's name, or a text that has exactly one in it; not read where the model is unconditional"
    )
    model: str | None = Field(None, description="`name` or `name@version`; default: the catalog's default model")
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="how many images; default 1")
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = Field(
        None, description="`auto` (default): the model's own; WIDTHxHEIGHT: enlarged by a whole factor"
    )
    seed: Seed | None = Field(None, description="seed of the first image; the next ones count up; default: drawn")
    truncation: float | None = Field(None, description="ψ: toward the mean latent; default 1")
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="default png")
    response_format: Literal["b64_json", "url"] | None = Field(None, description="b64_json alone")
    stream: Literal[False] | None = Field(None, description="images are answered whole")
    partial_images: Literal[0] | None = Field(None, description="images are answered whole")
    background: Literal["auto", "opaque"] | None = Field(None, description="images have no transparent parts")
    quality: str | None = Field(None, description="not read: a sample has one quality")
    style: str | None = Field(None, description="not read")
    moderation: str | None = Field(None, description="not read")
    user: str | None = Field(None, description="not read")
    safety_identifier: str | None = Field(None, description="not read")


def rephrase(status: int, error: dict[str, Any]) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`."""
    types = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = types.get(status, "server_error" if status >= 500 else "invalid_request_error")
    field = error["field"]
    param = _PARAMETERS.get(field, field)
    return {"error": {"message": error["message"], "type": kind, "param": param, "code": error["code"]}}


async def list_models(runtime: Runtime, request: Request) -> Response:
    """`GET /v1/models`."""
    del request
    models = runtime.catalog.models
    return JSONResponse({"object": "list", "data": [_described(models[name]) for name in sorted(models)]})


async def show_model(runtime: Runtime, request: Request) -> Response:
    """`GET /v1/models/{name}`."""
    return JSONResponse(_described(runtime.catalog.find(request.path_params["name"])))


def _described(model: ServedModel) -> dict[str, Any]:
    created = int(datetime.fromisoformat(model.card.created).timestamp())
    return {"id": model.name, "object": "model", "created": created, "owned_by": "latentd"}


def understand(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """The same samples as `/generate` gives of the seed and of the class that the prompt names."""
    del request
    asked = parsed(ImagesRequest, body, runtime)
    if asked.response_format == "url":
        raise invalid("response_format", "images are not kept, and have no URL; ask for b64_json")
    model = runtime.catalog.find(asked.model)
    spec = model.card.spec
    output = spec.output
    if not isinstance(output, ImageOutput):
        raise invalid("model", f"{model.name} gives {output.kind}, and no images; POST /generate has them")
    fields: dict[str, Any] = {
        "model": f"{model.name}@{model.version}",
        "num_samples": asked.n,
        "seed": asked.seed,
        "truncation": asked.truncation,
        "format": asked.output_format or "png",
    }
    if isinstance(spec.condition, ClassCondition):
        fields["label"] = _class_in(asked.prompt, spec.condition.names)
    try:
        generate = GenerateRequest(**fields)
    except ValidationError as problem:
        raise_invalid(problem)
    query = generate_query(generate, JSON, runtime.catalog, runtime.settings)
    return ParsedRequest(replace(query, scale=_scale(asked.size, output, query.num_samples)), _put)


def _class_in(prompt: str, names: Sequence[str]) -> str:
    """The one class that a prompt names. A name within a longer one (a shirt in a T-shirt) is not meant."""
    if prompt in names:
        return prompt
    longest_first = sorted(names, key=len, reverse=True)
    words = "|".join(re.escape(name) for name in longest_first)
    found = {name.casefold() for name in re.findall(rf"(?<![\w-])(?:{words})(?![\w-])", prompt, re.IGNORECASE)}
    meant = [name for name in names if name.casefold() in found]
    if len(meant) != 1:
        what = f"names {' and '.join(meant)}" if meant else "names no class of this model"
        raise invalid("label", f"the prompt {what}; it is to name exactly one of {', '.join(names)}")
    return meant[0]


def _scale(size: str | None, output: ImageOutput, count: int) -> int:
    """The whole factor by which `count` images are enlarged to `size`; ApiError 400 where there is none."""
    if size is None or size == "auto":
        return 1
    width, height = map(int, size.split("x"))
    scale = width // output.width
    sizes = [(output.width * each, output.height * each) for each in range(1, MAX_SCALE + 1)]
    possible = [f"{w}x{h}" for w, h in sizes if max(w, h) <= MAX_SIDE]
    if f"{width}x{height}" not in possible:
        raise invalid("size", f"an image is enlarged by whole factors alone; it can be {', '.join(possible)}, or auto")
    if scale > 1 and count * width * height > MAX_PIXELS:
        most = MAX_PIXELS // (width * height)
        raise invalid("size", f"{count} images of {size}; a request may ask for at most {most} that are so large")
    return scale


async def _put(answer: Answer) -> Response:
    whole = await asyncio.to_thread(_in_their_shape, answer)  # it can be long
    return Response(whole, media_type=JSON, headers=answer.headers)


def _in_their_shape(answer: Answer) -> bytes:
    query = answer.job.batch.query
    images = []
    for sample in orjson.loads(answer.body)["samples"]:
        image = {"b64_json": sample["data"], "seed": sample["seed"]}
        images.append(image | {"revised_prompt": sample["label"]} if "label" in sample else image)
    _, height, width = query.spec.output.shape
    return orjson.dumps(
        {
            "created": int(time.time()),
            "data": images,
            "output_format": query.response_format.format,
            "size": f"{width * query.scale}x{height * query.scale}",
            "model": f"{query.model.name}@{query.model.version}",
        }
    )


SHOWN: dict[str, Handler] = {"/v1/models": list_models, "/v1/models/{name}": show_model}
SAMPLES: dict[str, Handler] = {"/v1/images/generations": answering(understand)}
