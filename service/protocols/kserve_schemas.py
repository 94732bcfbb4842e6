"""The bodies of requests and answers in the Open Inference Protocol, as far as they are used here."""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from latentd.service.errors import ApiError, ErrorBody
from latentd.service.request_schemas import Index
from latentd.service.response_schemas import Answer, MayBeAbsent
from latentd.service.telemetry.model_statistics import ModelCounts


class InputTensor(NamedTuple):
    """A tensor that a request may have."""

    datatype: str
    dtype: str
    field: str
    """The field's name in a request to `/generate`."""


INPUTS = {
    "seeds": InputTensor("UINT32", "<u4", "seeds"),
    "latents": InputTensor("FP32", "<f4", "latents"),
    "labels": InputTensor("INT32", "<i4", "label"),
}
OUTPUT = "samples"

_INPUT_NAMES = {tensor.field: name for name, tensor in INPUTS.items()}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    parameters: dict[str, JsonValue] | None = None


class RequestTensor(_Part):
    """An input: its numbers are in `data`, or in the `binary_data_size` bytes after the JSON."""

    name: str
    datatype: str
    shape: Annotated[list[Index], Field(max_length=8)]
    data: list[Any] | None = None


class RequestOutput(_Part):
    """An output that the client wants."""

    name: str


class InferRequest(_Part):
    """`POST /v2/models/{name}/infer`."""

    id: str | None = None
    inputs: Annotated[list[RequestTensor], Field(max_length=len(INPUTS))]
    outputs: Annotated[list[RequestOutput], Field(max_length=1)] | None = None


class InferError(ErrorBody):
    """`{"error": text}`."""

    error: str

    @classmethod
    def of(cls, problem: ApiError) -> Self:
        field = _INPUT_NAMES.get(problem.field or "", problem.field)
        return cls(error=problem.message_for(field))


class ServerAnswer(Answer):
    """`GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(Answer):
    """`GET /v2/health/live`."""

    live: bool


class ReadyAnswer(Answer):
    """`GET /v2/health/ready`."""

    ready: bool


class ModelReadyAnswer(ReadyAnswer):
    """`GET /v2/models/{name}/ready`."""

    name: str


class TensorMetadata(Answer):
    """A tensor that a model takes or gives; -1 stands for any number of samples."""

    name: str
    datatype: str
    shape: list[int]


class MetadataAnswer(Answer):
    """`GET /v2/models/{name}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ResponseTensor(TensorMetadata):
    """Samples, in `data` or in the `binary_data_size` bytes after the JSON."""

    data: MayBeAbsent[list[float]]
    parameters: MayBeAbsent[dict[str, int]]


class InferAnswer(Answer):
    """`POST /v2/models/{name}/infer`."""

    model_name: str
    model_version: str
    id: MayBeAbsent[str]
    outputs: list[ResponseTensor]


class TensorConfig(Answer):
    """A tensor in a model's configuration."""

    name: str
    data_type: str
    dims: list[int]


class InputConfig(TensorConfig):
    """An input. Only `seeds` is not optional, so that tools that know nothing else send it. Latents can replace it."""

    optional: bool


class ConfigAnswer(Answer):
    """`GET /v2/models/{name}/config`."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[InputConfig]
    output: list[TensorConfig]


class Durations(Answer):
    """How often something was done, and how many nanoseconds it took in total."""

    count: int
    ns: int


class InferenceStatistics(Answer):
    """Requests that were answered, requests that failed, and the parts of their time in each of their batches."""

    success: Durations
    fail: Durations
    queue: Durations
    compute_input: Durations
    compute_infer: Durations
    compute_output: Durations
    cache_hit: Durations
    cache_miss: Durations


class StatisticsOfModel(Answer):
    """The statistics of a model since the service started."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since 1970; 0 before the first batch")
    inference_count: int = Field(description="samples")
    execution_count: int = Field(description="batches")
    inference_stats: InferenceStatistics


class StatisticsAnswer(Answer):
    """`GET /v2/models/stats`, `GET /v2/models/{name}/stats`."""

    model_stats: list[StatisticsOfModel]


def model_statistics(name: str, version: str, counts: ModelCounts) -> StatisticsOfModel:
    """Return the counts of a model in the protocol's form. There is no cache, and reading inputs is not timed."""
    nothing = Durations(count=0, ns=0)
    measured = {
        part: Durations(count=duration.count, ns=round(duration.seconds * 1e9))
        for part, duration in {
            "success": counts.answered,
            "fail": counts.failed,
            "queue": counts.queued,
            "compute_infer": counts.forward,
            "compute_output": counts.encoding,
        }.items()
    }
    return StatisticsOfModel(
        name=name,
        version=version,
        last_inference=round(counts.last_batch * 1000),
        inference_count=counts.samples,
        execution_count=counts.batches,
        inference_stats=InferenceStatistics(**measured, compute_input=nothing, cache_hit=nothing, cache_miss=nothing),
    )
