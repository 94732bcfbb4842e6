"""Inference requests of the Open Inference Protocol, with tensors as JSON or as bytes after it (see kserve.py)."""

import asyncio
import math
from functools import partial
from typing import Any

import numpy as np
import orjson
from pydantic import JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from latentd.models.encoding.npy import decode_npy
from latentd.models.outputs.base import Samples
from latentd.models.suggestions import unknown
from latentd.service.content_negotiation import JSON
from latentd.service.errors import invalid, raise_invalid
from latentd.service.protocols.kserve_schemas import (
    INPUTS,
    OUTPUT,
    InferRequest,
    InputTensor,
    RequestTensor,
)
from latentd.service.queries.generate import generate_query
from latentd.service.queries.query import require_at_most
from latentd.service.request_schemas import GenerateRequest, as_integer
from latentd.service.runtime import Runtime
from latentd.service.samples.handler import FinishedJob, ParsedRequest, parse_json

BINARY = "application/octet-stream"
_NPY = "application/x-npy"
_JSON_LENGTH = "Inference-Header-Content-Length"
_PARAMETERS = frozenset({"truncation", "binary_data_output"})


def model_reference(request: Request) -> str:
    """Return the model of a path: `name`, or `name@version` if the path has a version."""
    name, pinned = request.path_params["name"], request.path_params.get("version")
    return f"{name}@{pinned}" if pinned else str(name)


def parse_infer(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """Make the query that `/generate` makes from the same seeds or latents."""
    infer_request, binary = _split(runtime, request, body)
    fields: dict[str, Any] = {"model": model_reference(request)} | _fields(
        infer_request, binary, runtime.settings.max_samples
    )
    parameters = infer_request.parameters or {}
    if others := parameters.keys() - _PARAMETERS:
        raise invalid("parameters", unknown("parameter", min(others), sorted(_PARAMETERS)))
    if "truncation" in parameters:
        fields["truncation"] = parameters["truncation"]
    in_binary = _wants_binary(infer_request, parameters)
    try:
        generate = GenerateRequest(**fields)
    except ValidationError as problem:
        raise_invalid(problem, GenerateRequest)
    query = generate_query(generate, _NPY, runtime.catalog, runtime.settings)
    return ParsedRequest(query, partial(_respond, id=infer_request.id, in_binary=in_binary))


def _split(runtime: Runtime, request: Request, body: bytes) -> tuple[InferRequest, bytes]:
    """Return the JSON of a body, and the bytes after it, which belong to tensors."""
    length = request.headers.get(_JSON_LENGTH)
    if length is None:
        return parse_json(InferRequest, body, runtime), b""
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):
        raise invalid(None, f"{_JSON_LENGTH} is the length of the JSON in bytes, at most the body's {len(body)}")
    return parse_json(InferRequest, body[: int(length)], runtime), body[int(length) :]


def _fields(infer_request: InferRequest, binary: bytes, max_samples: int) -> dict[str, Any]:
    """Return the tensors as fields of a request to `/generate`."""
    fields: dict[str, Any] = {}
    for tensor in infer_request.inputs:
        kind = INPUTS.get(tensor.name)
        if kind is None:
            raise invalid("inputs", unknown("input", tensor.name, INPUTS))
        if kind.field in fields:
            raise invalid("inputs", f"the input {tensor.name} is there twice")
        if tensor.datatype != kind.datatype:
            raise invalid("inputs", f"the datatype of {tensor.name} is {kind.datatype}, not {tensor.datatype!r}")
        shape, rank = tensor.shape, 2 if tensor.name == "latents" else 1
        if len(shape) == rank + 1 and shape[-1] == 1:  # [n, 1], as models with a batch dimension have it
            tensor.shape = shape[:-1]
        if len(tensor.shape) != rank or 0 in tensor.shape:
            wanted = "[n, dim]" if rank == 2 else "[n] or [n, 1]"
            raise invalid("inputs", f"the shape of {tensor.name} is {wanted}, not {tensor.shape}")
        require_at_most(tensor.shape[0], max_samples, tensor.name)
        fields[kind.field], binary = _numbers(tensor, kind, binary)
    if binary:
        raise invalid(None, f"{len(binary)} bytes after the JSON belong to no input")
    if not fields.keys() & {"seeds", "latents"}:
        raise invalid("inputs", "a request needs the input seeds or latents")
    return fields


def _numbers(tensor: RequestTensor, kind: InputTensor, binary: bytes) -> tuple[list[Any], bytes]:
    """Return a tensor's numbers, one row for each sample, and the bytes that remain for other tensors."""
    parameters = tensor.parameters or {}
    if others := parameters.keys() - {"binary_data_size"}:
        raise invalid("inputs", f"{tensor.name}: {unknown('parameter', min(others), ['binary_data_size'])}")
    size = as_integer(parameters.get("binary_data_size"))
    if (size is None) == (tensor.data is None):
        raise invalid("inputs", f"{tensor.name} needs either data or binary_data_size")
    count = math.prod(tensor.shape)
    if tensor.data is None:
        here = count * np.dtype(kind.dtype).itemsize
        if size != here or here > len(binary):
            message = f"{tensor.name}: a tensor of shape {tensor.shape} is {here} bytes; binary_data_size says {size}"
            raise invalid("inputs", f"{message}, and {len(binary)} bytes arrived")
        rows: list[Any] = np.frombuffer(binary, kind.dtype, count).reshape(tensor.shape).tolist()
        return rows, binary[here:]
    flat = [number for row in tensor.data for number in (row if isinstance(row, list) else [row])]
    if len(flat) != count:
        raise invalid("inputs", f"{tensor.name} has {len(flat)} numbers for the shape {tensor.shape}")
    if len(tensor.shape) == 1:
        flat = list(map(as_integer, flat))
        if not all(type(number) is int for number in flat):
            raise invalid("inputs", f"{tensor.name} needs whole numbers")
        return flat, binary
    width = tensor.shape[1]
    return [flat[first : first + width] for first in range(0, count, width)], binary


def _wants_binary(infer_request: InferRequest, parameters: dict[str, JsonValue]) -> bool:
    """Return whether the client wants the samples as bytes after the JSON."""
    wanted: JsonValue = parameters.get("binary_data_output", False)
    for output in infer_request.outputs or []:
        if output.name != OUTPUT:
            raise invalid("outputs", f"unknown output {output.name!r}; the output is {OUTPUT}")
        of_output = output.parameters or {}
        if others := of_output.keys() - {"binary_data"}:
            raise invalid("outputs", unknown("parameter", min(others), ["binary_data"]))
        wanted = of_output.get("binary_data", wanted)
    if not isinstance(wanted, bool):
        raise invalid("outputs", "binary_data and binary_data_output are true or false")
    return wanted


async def _respond(finished: FinishedJob, id: str | None, in_binary: bool) -> Response:
    samples = decode_npy(finished.body)
    model = finished.job.batch.query.model
    head = {"model_name": model.name, "model_version": model.version} | ({} if id is None else {"id": id})
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(samples.shape)}
    if not in_binary:
        body = await asyncio.to_thread(_in_json, head, output, samples)
        return Response(body, media_type=JSON, headers=finished.headers)
    output["parameters"] = {"binary_data_size": samples.nbytes}
    text = orjson.dumps(head | {"outputs": [output]})
    headers = finished.headers | {_JSON_LENGTH: str(len(text))}
    return Response(text + samples.tobytes(), media_type=BINARY, headers=headers)


def _in_json(head: dict[str, str], output: dict[str, Any], samples: Samples) -> bytes:
    """Return the answer as JSON. Each number has the fewest digits that identify its float32."""
    return orjson.dumps(head | {"outputs": [output | {"data": samples.reshape(-1)}]}, option=orjson.OPT_SERIALIZE_NUMPY)
