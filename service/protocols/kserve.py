"""The Open Inference Protocol, version 2, which KServe and Triton speak, with the extension for binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from latentd.models.packages import package_version
from latentd.service.catalog import ServedModel
from latentd.service.content_negotiation import JSON
from latentd.service.errors import ApiError
from latentd.service.json_responses import error_response
from latentd.service.protocols.kserve_infer import BINARY, model_reference, parse_infer
from latentd.service.protocols.kserve_schemas import (
    INPUTS,
    OUTPUT,
    ConfigAnswer,
    InferAnswer,
    InferError,
    InferRequest,
    InputConfig,
    LiveAnswer,
    MetadataAnswer,
    ModelReadyAnswer,
    ReadyAnswer,
    ServerAnswer,
    StatisticsAnswer,
    TensorConfig,
    TensorMetadata,
    model_statistics,
)
from latentd.service.route import Route
from latentd.service.runtime import Runtime
from latentd.service.samples.handler import sample_handler

_EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics"]


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


def _model(runtime: Runtime, request: Request) -> ServedModel:
    return runtime.catalog.find(model_reference(request))


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
            handler=sample_handler(parse_infer, extra_types=(BINARY,)),
            body=InferRequest,
            answers={JSON: InferAnswer, BINARY: bytes},
        )
        for path in _MODEL
    ),
)
