"""The bodies and the answers of the Open Inference Protocol, as far as they are used here."""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from latentd.service.answer_schemas import Answer, MayBeAbsent
from latentd.service.errors import ApiError, ErrorBody


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
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
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
        return cls(error=f"{field}: {problem.message}" if field else problem.message)


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
