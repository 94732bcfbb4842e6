"""The Open Inference Protocol, version 2, as KServe and Triton speak it, with the extension for binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import asyncio
import math
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from latentd.models.outputs.base import Samples, decode_npy
from latentd.service.api import Answer, Handler, ParsedRequest, Runtime, answering, parsed
from latentd.service.catalog import ServedModel
from latentd.service.errors import ApiError, invalid, raise_invalid
from latentd.service.queries.generate import generate_query
from latentd.service.queries.query import require_at_most
from latentd.service.responses import error_response
from latentd.service.schemas import GenerateRequest

_NPY = "application/x-npy"
_JSON_LENGTH = "Inference-Header-Content-Length"
_OUTPUT = "samples"
_PARAMETERS = frozenset({"truncation", "binary_data_output"})


class _Input(NamedTuple):
    """A tensor that a request may bring."""

    datatype: str
    dtype: str
    field: str
    """What it is called in a request to `/generate`."""


_INPUTS = {
    "seeds": _Input("UINT32", "<u4", "seeds"),
    "latents": _Input("FP32", "<f4", "latents"),
    "labels": _Input("INT32", "<i4", "label"),
}


_INPUT_NAMES = {kind.field: name for name, kind in _INPUTS.items()}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    parameters: dict[str, JsonValue] | None = None


class RequestTensor(_Part):
    """An input: its numbers stand in `data`, or after the JSON, `binary_data_size` bytes of them."""

    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
    data: list[Any] | None = None


class RequestOutput(_Part):
    """An output that is asked for."""

    name: str


class InferRequest(_Part):
    """`POST /v2/models/{name}/infer`."""

    id: str | None = None
    inputs: Annotated[list[RequestTensor], Field(max_length=len(_INPUTS))]
    outputs: Annotated[list[RequestOutput], Field(max_length=1)] | None = None


def rephrase(status: int, error: dict[str, Any]) -> dict[str, Any]:
    """`{"error": text}`."""
    del status
    field, message = _INPUT_NAMES.get(error["field"], error["field"]), error["message"]
    return {"error": f"{field}: {message}" if field else message}


async def show_server(runtime: Runtime, request: Request) -> Response:
    """`GET /v2`."""
    del runtime, request
    return JSONResponse({"name": "latentd", "version": version("latentd"), "extensions": ["binary_tensor_data"]})


async def tell_live(runtime: Runtime, request: Request) -> Response:
    """`GET /v2/health/live`."""
    del runtime, request
    return JSONResponse({"live": True})


async def tell_ready(runtime: Runtime, request: Request) -> Response:
    """`GET /v2/health/ready`."""
    del request
    if not runtime.ready:  # an answer to the question, and no request that was refused
        return error_response(ApiError(503, "not_ready", "there is no model to serve yet"))
    return JSONResponse({"ready": True})


async def tell_model_ready(runtime: Runtime, request: Request) -> Response:
    """`GET /v2/models/{name}/ready`; 404 where it is not."""
    return JSONResponse({"name": _model(runtime, request).name, "ready": True})


async def show_model(runtime: Runtime, request: Request) -> Response:
    """`GET /v2/models/{name}`: its tensors. A request brings seeds or latents, and labels if it likes."""
    model = _model(runtime, request)
    spec = model.card.spec
    shapes = {"seeds": [-1], "latents": [-1, spec.input.dim], "labels": [-1]}
    if spec.condition.kind == "none":
        del shapes["labels"]
    return JSONResponse(
        {
            "name": model.name,
            "versions": [model.version],
            "platform": "latentd",
            "inputs": [
                {"name": name, "datatype": _INPUTS[name].datatype, "shape": shape} for name, shape in shapes.items()
            ],
            "outputs": [{"name": _OUTPUT, "datatype": "FP32", "shape": [-1, *spec.output.shape]}],
        }
    )


def _reference(request: Request) -> str:
    name, asked = request.path_params["name"], request.path_params.get("version")
    return f"{name}@{asked}" if asked else str(name)


def _model(runtime: Runtime, request: Request) -> ServedModel:
    return runtime.catalog.find(_reference(request))


def understand(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """The same samples as `/generate` gives of these seeds or latents."""
    asked, binary = _split(runtime, request, body)
    fields: dict[str, Any] = {"model": _reference(request)} | _fields(asked, binary, runtime.settings.max_samples)
    parameters = asked.parameters or {}
    if unknown := parameters.keys() - _PARAMETERS:
        known = ", ".join(sorted(_PARAMETERS))
        raise invalid("parameters", f"{min(unknown)!r} is not known here; known are {known}")
    if "truncation" in parameters:
        fields["truncation"] = parameters["truncation"]
    in_binary = _wants_binary(asked, parameters)
    try:
        generate = GenerateRequest(**fields)
    except ValidationError as problem:
        raise_invalid(problem)
    query = generate_query(generate, _NPY, runtime.catalog, runtime.settings)
    return ParsedRequest(query, partial(_put, id=asked.id, in_binary=in_binary))


def _split(runtime: Runtime, request: Request, body: bytes) -> tuple[InferRequest, bytes]:
    """The JSON of a body, and the tensors behind it."""
    length = request.headers.get(_JSON_LENGTH)
    if length is None:
        return parsed(InferRequest, body, runtime), b""
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):
        raise invalid(None, f"{_JSON_LENGTH} is the length of the JSON in bytes, at most the body's {len(body)}")
    return parsed(InferRequest, body[: int(length)], runtime), body[int(length) :]


def _fields(asked: InferRequest, binary: bytes, max_samples: int) -> dict[str, Any]:
    """The tensors as fields of a request to `/generate`."""
    fields: dict[str, Any] = {}
    for tensor in asked.inputs:
        kind = _INPUTS.get(tensor.name)
        if kind is None:
            raise invalid("inputs", f"there is no input {tensor.name!r}; there are {', '.join(_INPUTS)}")
        if kind.field in fields:
            raise invalid("inputs", f"{tensor.name} is there twice")
        if tensor.datatype != kind.datatype:
            raise invalid("inputs", f"{tensor.name} is {kind.datatype}, not {tensor.datatype!r}")
        rank = 2 if tensor.name == "latents" else 1
        if len(tensor.shape) != rank or 0 in tensor.shape:
            wanted = "[n, dim]" if rank == 2 else "[n]"
            raise invalid("inputs", f"{tensor.name} has the shape {wanted}, not {tensor.shape}")
        require_at_most(tensor.shape[0], max_samples, tensor.name)
        fields[kind.field], binary = _numbers(tensor, kind, binary)
    if binary:
        raise invalid(None, f"{len(binary)} bytes behind the JSON belong to no input")
    if not fields.keys() & {"seeds", "latents"}:
        raise invalid("inputs", "a request brings an input seeds or latents")
    return fields


def _numbers(tensor: RequestTensor, kind: _Input, binary: bytes) -> tuple[list[Any], bytes]:
    """A tensor's numbers, a row a sample, and what is left of the binary ones."""
    parameters = tensor.parameters or {}
    if unknown := parameters.keys() - {"binary_data_size"}:
        raise invalid("inputs", f"{tensor.name}: the parameter {min(unknown)!r} is not known here")
    size = parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise invalid("inputs", f"{tensor.name} has either data or a binary_data_size")
    count = math.prod(tensor.shape)
    if tensor.data is None:
        here = count * np.dtype(kind.dtype).itemsize
        if size != here or here > len(binary):
            message = f"{tensor.name}: a tensor of shape {tensor.shape} is {here} bytes; announced were {size}"
            raise invalid("inputs", f"{message}, and {len(binary)} are there")
        rows: list[Any] = np.frombuffer(binary, kind.dtype, count).reshape(tensor.shape).tolist()
        return rows, binary[here:]
    flat = [number for row in tensor.data for number in (row if isinstance(row, list) else [row])]
    if len(flat) != count:
        raise invalid("inputs", f"{tensor.name}: {len(flat)} numbers for the shape {tensor.shape}")
    if len(tensor.shape) == 1:
        if not all(type(number) is int for number in flat):
            raise invalid("inputs", f"{tensor.name} has whole numbers")
        return flat, binary
    width = tensor.shape[1]
    return [flat[first : first + width] for first in range(0, count, width)], binary


def _wants_binary(asked: InferRequest, parameters: dict[str, JsonValue]) -> bool:
    """Whether the samples are to follow the JSON as bytes."""
    wanted: JsonValue = parameters.get("binary_data_output", False)
    for output in asked.outputs or []:
        if output.name != _OUTPUT:
            raise invalid("outputs", f"there is no output {output.name!r}; there is {_OUTPUT}")
        of_output = output.parameters or {}
        if unknown := of_output.keys() - {"binary_data"}:
            raise invalid("outputs", f"the parameter {min(unknown)!r} is not known here")
        wanted = of_output.get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise invalid("outputs", "whether an output is to be binary is true or false")
    return wanted


async def _put(answer: Answer, id: str | None, in_binary: bool) -> Response:
    samples = decode_npy(answer.body)
    model = answer.job.batch.query.model
    head = {"model_name": model.name, "model_version": model.version} | ({} if id is None else {"id": id})
    output: dict[str, Any] = {"name": _OUTPUT, "datatype": "FP32", "shape": list(samples.shape)}
    if not in_binary:
        whole = await asyncio.to_thread(_in_json, head, output, samples)
        return Response(whole, media_type="application/json", headers=answer.headers)
    output["parameters"] = {"binary_data_size": samples.nbytes}
    text = orjson.dumps(head | {"outputs": [output]})
    headers = answer.headers | {_JSON_LENGTH: str(len(text))}
    return Response(text + samples.tobytes(), media_type="application/octet-stream", headers=headers)


def _in_json(head: dict[str, str], output: dict[str, Any], samples: Samples) -> bytes:
    """Numbers with as few digits as lead back to the same float32."""
    return orjson.dumps(head | {"outputs": [output | {"data": samples.reshape(-1)}]}, option=orjson.OPT_SERIALIZE_NUMPY)


_NAMED = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")

OPEN: dict[str, Handler] = {"/v2/health/live": tell_live, "/v2/health/ready": tell_ready}
"""Probes, for everybody."""
SHOWN: dict[str, Handler] = {
    "/v2": show_server,
    **dict.fromkeys(_NAMED, show_model),
    **{f"{path}/ready": tell_model_ready for path in _NAMED},
}
SAMPLES: dict[str, Handler] = {f"{path}/infer": answering(understand, raw=True) for path in _NAMED}
