"""The Open Inference Protocol, version 2, which KServe and Triton speak, with the extension for binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

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
from latentd.models.packages import package_version
from latentd.models.suggestions import unknown
from latentd.service.catalog import ServedModel
from latentd.service.content_negotiation import JSON
from latentd.service.errors import ApiError, invalid, raise_invalid
from latentd.service.json_responses import error_response
from latentd.service.protocols.kserve_schemas import (
    INPUTS,
    OUTPUT,
    ConfigAnswer,
    InferAnswer,
    InferError,
    InferRequest,
    InputConfig,
    InputTensor,
    LiveAnswer,
    MetadataAnswer,
    ModelReadyAnswer,
    ReadyAnswer,
    RequestTensor,
    ServerAnswer,
    StatisticsAnswer,
    TensorConfig,
    TensorMetadata,
    model_statistics,
)
from latentd.service.queries.generate import generate_query
from latentd.service.queries.query import require_at_most
from latentd.service.request_schemas import GenerateRequest, as_integer
from latentd.service.route import Route
from latentd.service.runtime import Runtime
from latentd.service.samples.handler import FinishedJob, ParsedRequest, parse_json, sample_handler

_BINARY = "application/octet-stream"
_NPY = "application/x-npy"
_JSON_LENGTH = "Inference-Header-Content-Length"
_EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics"]
_PARAMETERS = frozenset({"truncation", "binary_data_output"})


async def show_server(runtime: Runtime, request: Request) -> ServerAnswer:
    """Return the server's name and version."""
    del runtime, request
    return ServerAnswer(name="latentd", version=package_version("latentd"), extensions=_EXTENSIONS)


async def show_live(runtime: Runtime, request: Request) -> LiveAnswer:
    """Answer as long as the process runs."""
    del runtime, request
    return LiveAnswer(live=True)


async def show_ready(runtime: Runtime, request: Request) -> ReadyAnswer | Response:
    """Return that there is a model to serve. If there is none, the answer is a 503."""
    del request
    if runtime.ready:
        return ReadyAnswer(ready=True)
    # returned and not raised: this is an answer, and no rejection that metrics count
    return error_response(ApiError(503, "not_ready", "there is no model to serve yet"))


async def show_model_ready(runtime: Runtime, request: Request) -> ModelReadyAnswer:
    """Return that a model is ready. Raises ApiError 404 if it is not."""
    return ModelReadyAnswer(name=_model(runtime, request).name, ready=True)


async def show_model(runtime: Runtime, request: Request) -> MetadataAnswer:
    """Return a model's tensors. A request has seeds or latents, and may have labels."""
    model = _model(runtime, request)
    return MetadataAnswer(
        name=model.name,
        versions=runtime.catalog.names.versions_of(model.name),
        platform="latentd",
        inputs=[
            TensorMetadata(name=name, datatype=INPUTS[name].datatype, shape=shape)
            for name, shape in _input_shapes(model).items()
        ],
        outputs=[TensorMetadata(name=OUTPUT, datatype="FP32", shape=_output_shape(model))],
    )


async def show_config(runtime: Runtime, request: Request) -> ConfigAnswer:
    """Return a model's configuration. The first dimension of each tensor is that of the samples."""
    model = _model(runtime, request)
    return ConfigAnswer(
        name=model.name,
        platform="latentd",
        backend="latentd",
        max_batch_size=0,
        input=[
            InputConfig(name=name, data_type=f"TYPE_{INPUTS[name].datatype}", dims=shape, optional=name != "seeds")
            for name, shape in _input_shapes(model).items()
        ],
        output=[TensorConfig(name=OUTPUT, data_type="TYPE_FP32", dims=_output_shape(model))],
    )


async def show_statistics(runtime: Runtime, request: Request) -> StatisticsAnswer:
    """Return the statistics of one model, or of all models, since the service started."""
    models = [_model(runtime, request)] if "name" in request.path_params else runtime.catalog.models.values()
    counts = runtime.telemetry.model_statistics
    return StatisticsAnswer(
        model_stats=[model_statistics(each.name, each.version, counts.of(each.name)) for each in models]
    )


def _input_shapes(model: ServedModel) -> dict[str, list[int]]:
    """Return the shape of each input; -1 stands for the number of samples."""
    spec = model.card.spec
    shapes = {"seeds": [-1], "latents": [-1, *spec.input.shape]} if "seed" in spec.input.operations else {}
    return shapes | ({"labels": [-1]} if spec.condition.class_names else {})


def _output_shape(model: ServedModel) -> list[int]:
    return [-1, *model.card.spec.output.shape]


def _reference(request: Request) -> str:
    name, pinned = request.path_params["name"], request.path_params.get("version")
    return f"{name}@{pinned}" if pinned else str(name)


def _model(runtime: Runtime, request: Request) -> ServedModel:
    return runtime.catalog.find(_reference(request))


def parse(runtime: Runtime, request: Request, body: bytes) -> ParsedRequest:
    """Make the query that `/generate` makes from the same seeds or latents."""
    infer_request, binary = _split(runtime, request, body)
    fields: dict[str, Any] = {"model": _reference(request)} | _fields(
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
    return Response(text + samples.tobytes(), media_type=_BINARY, headers=headers)


def _in_json(head: dict[str, str], output: dict[str, Any], samples: Samples) -> bytes:
    """Return the answer as JSON. Each number has the fewest digits that identify its float32."""
    return orjson.dumps(head | {"outputs": [output | {"data": samples.reshape(-1)}]}, option=orjson.OPT_SERIALIZE_NUMPY)


_MODEL = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
_route = partial(Route, tag="other clients", error_body=InferError)
_get = partial(_route, method="GET")

ROUTES = (
    _get(
        path="/v2/health/live",
        summary="Check that the process is alive",
        handler=show_live,
        access="open",
        answers={JSON: LiveAnswer},
    ),
    _get(
        path="/v2/health/ready",
        summary="Check that there is a model to serve",
        handler=show_ready,
        access="open",
        answers={JSON: ReadyAnswer},
    ),
    _get(path="/v2", summary="Show the server's name and version", handler=show_server, answers={JSON: ServerAnswer}),
    *(
        _get(
            path=path,
            summary="Show a model's input and output tensors",
            handler=show_model,
            answers={JSON: MetadataAnswer},
        )
        for path in _MODEL
    ),
    *(
        _get(
            path=f"{path}/config",
            summary="Show a model's configuration",
            handler=show_config,
            answers={JSON: ConfigAnswer},
        )
        for path in _MODEL
    ),
    *(
        _get(
            path=f"{path}/stats",
            summary="Show the statistics of a model, or of all models",
            handler=show_statistics,
            answers={JSON: StatisticsAnswer},
        )
        for path in ("/v2/models", *_MODEL)
    ),
    *(
        _get(
            path=f"{path}/ready",
            summary="Check that a model is served",
            handler=show_model_ready,
            answers={JSON: ModelReadyAnswer},
        )
        for path in _MODEL
    ),
    *(
        _route(
            method="POST",
            path=f"{path}/infer",
            summary="Generate samples as a tensor",
            handler=sample_handler(parse, extra_types=(_BINARY,)),
            body=InferRequest,
            answers={JSON: InferAnswer, _BINARY: bytes},
        )
        for path in _MODEL
    ),
)
