"""The bodies of requests, as pydantic models. Checks that depend on the model are in service/queries/.

A body may contain a million mistakes. Every check stops at the first one, so that a refusal costs no more than reading.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from latentd.models.directions import MAX_DIRECTIONS
from latentd.models.inputs.base import Space
from latentd.models.seeds import MAX_SEED


def as_integer(value: object) -> object:
    """Return 7 for 7.0, which is an integer in JSON Schema. Lua, R and MATLAB write integers like this."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(as_integer)
"""Must come after the bounds of an integer. Otherwise the JSON schema lacks them."""
Count = Annotated[int, Field(ge=1), WHOLE]
Index = Annotated[int, Field(ge=0), WHOLE]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE]
ClassName = int | str
ClassMixture = dict[str, float]
"""Class weights by name, which add up to 1."""
Label = ClassName | ClassMixture
Latent = Annotated[list[float], Field(min_length=1, fail_fast=True)]
Layout = Annotated[str, Field(max_length=32)]

DirectionsVersion = Annotated[str, Field(max_length=100)]

MAX_KEYFRAMES = 64
MAX_SOURCES = 64
MAX_STEPS = 4096
MAX_SCALE = 16
MAX_PICTURES = 1024
MAX_MODEL_FIELDS = 16


def _is_label(value: object) -> bool:
    return isinstance(value, ClassName) and not isinstance(value, bool)


def _check_labels(value: object) -> object:
    if isinstance(value, list):
        value = list(map(as_integer, value))
        if not all(map(_is_label, value)):
            raise PydanticCustomError("label", "A list of labels needs a class index or name for each sample")
        return value
    return _check_label(value)


def _check_label(value: object) -> object:
    value = as_integer(value)
    if isinstance(value, dict):
        if not all(isinstance(weight, int | float) and 0 <= weight <= 1 for weight in value.values()):
            raise PydanticCustomError("label", "A label of several classes needs a weight from 0 to 1 for each name")
    elif value is not None and not _is_label(value):
        raise PydanticCustomError("label", "A label is a class index, a class name, or weights by class name")
    return value


def _check_directions(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_DIRECTIONS:
        raise PydanticCustomError("directions", f"A request may name at most {MAX_DIRECTIONS} directions")
    return value


DirectionAmounts = Annotated[dict[str, float], BeforeValidator(_check_directions)]
"""For each direction by name: how far to move along it."""
OneLabel = Annotated[Label | None, BeforeValidator(_check_label)]


class OpenBody(BaseModel):
    """A body, or a part of one. A field that is null counts as absent.

    Fields that are not declared here may belong to a model: its condition and its controls. They are checked when the
    model is known (service/queries/fields.py).
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        undeclared = [name for name in data if name not in cls.model_fields]
        if len(undeclared) > MAX_MODEL_FIELDS:
            raise PydanticCustomError("fields", f"A request has at most {MAX_MODEL_FIELDS} fields of a model")
        return {name: value for name, value in data.items() if value is not None or name in undeclared}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say in the JSON schema that fields with a default may be null."""
        described = handler(schema)
        resolved = handler.resolve_ref_schema(described)
        for name, field in resolved["properties"].items():
            if name not in resolved.get("required", ()):
                resolved["properties"][name] = _or_null(field)
        return described


def _or_null(schema: JsonSchemaValue) -> JsonSchemaValue:
    outside = {name: value for name, value in schema.items() if name in ("title", "description", "default")}
    kinds = schema.get("anyOf", [{name: value for name, value in schema.items() if name not in outside}])
    null = {"type": "null"}
    return outside | {"anyOf": kinds if null in kinds else [*kinds, null]}


class SamplesRequest(OpenBody):
    """The fields that every request for samples has."""

    model: str | None = Field(None, description="`name` or `name@version`; default: the catalog's default model")
    truncation: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="ψ: scales latents toward their mean; default 1, which leaves them unchanged"
    )
    directions: DirectionAmounts | None = Field(
        None,
        description="how far to move along the model's directions, by name; 1 is one standard deviation of latents",
    )
    directions_version: DirectionsVersion | None = Field(
        None, description="the version of the directions; refused if another one is served"
    )
    format: str | None = Field(
        None, description="png, webp, jpeg, npy or json, as far as the model's output kind has it"
    )


class GenerateRequest(SamplesRequest):
    """`POST /generate`."""

    num_samples: Count | None = Field(None, description="how many samples; default 1")
    seed: Seed | None = Field(
        None, description="seed of the first sample; the next samples count up from it; default: drawn by the server"
    )
    seeds: Annotated[list[Seed], Field(min_length=1, fail_fast=True)] | None = Field(
        None, description="explicit seeds instead of seed and num_samples"
    )
    latents: (
        Annotated[list[Annotated[list[float], Field(fail_fast=True)]], Field(min_length=1, fail_fast=True)] | None
    ) = Field(None, description="explicit latents instead of seeds")
    label: Annotated[Label | list[ClassName] | None, BeforeValidator(_check_labels)] = Field(
        None,
        description="class index or name, a list with one per sample, or weights by class name; default: from the seed",
    )
    layout: Layout | None = Field(
        None,
        description="`separate`: one file per sample; else one file of all, as a `grid` or as the output kind has it",
    )


class TranslateRequest(SamplesRequest):
    """`POST /translate`. As a form, each file is one of `images`."""

    images: Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES, fail_fast=True)] = Field(
        description="pictures in base64: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF files"
    )
    label: Annotated[Label | list[ClassName] | None, BeforeValidator(_check_labels)] = Field(
        None, description="class index or name, a list with one per picture, or weights by class name"
    )
    layout: Layout | None = Field(
        None, description="`separate`: one file per sample; `grid`, or what else the output kind has: one file of all"
    )


class LatentPoint(OpenBody):
    """A latent, given by a seed or by its numbers, with a class."""

    seed: Seed | None = Field(None, description="names a latent, and a class if there is no label")
    latent: Latent | None = Field(None, description="the latent's numbers")
    label: OneLabel = Field(None, description="class index or name, or weights by class name")


class InterpolateRequest(SamplesRequest):
    """`POST /interpolate`."""

    keyframes: Annotated[list[LatentPoint], Field(min_length=2, max_length=MAX_KEYFRAMES, fail_fast=True)] = Field(
        description="the latents through which the path goes"
    )
    steps: Annotated[int, Field(ge=2, le=MAX_STEPS), WHOLE] = Field(
        16, description="frames per segment, including its two keyframes"
    )
    loop: bool = Field(False, description="back to the first keyframe, which is not repeated")
    method: Literal["slerp", "lerp"] | None = Field(
        None,
        description="along the sphere or in a straight line; default: slerp for normal z, lerp for uniform z and for w",
    )
    space: Space = Field("z", description="the space of the path; w only for models that have it")
    easing: Literal["linear", "smooth"] = Field(
        "linear", description="smooth: the motion slows to rest at every keyframe"
    )
    label: OneLabel = Field(None, description="the class of keyframes without a label")
    layout: Layout | None = Field(
        None,
        description="`separate`: one file per frame; `animation`, `grid`, or what else the output kind has: one file",
    )
    fps: Annotated[int, Field(ge=1, le=60), WHOLE] | None = Field(
        None, description="frames per second of an animation; default 24"
    )
    scale: Annotated[int, Field(ge=1, le=MAX_SCALE), WHOLE] | None = Field(
        None, description="integer factor that enlarges an animation"
    )
    filter: Literal["nearest", "lanczos"] | None = Field(
        None, description="how an animation is enlarged; default nearest"
    )


class MixSource(LatentPoint):
    """One of the latents that are mixed."""

    weight: float = Field(1.0, description="any finite number; not all may be zero")


def _check_weights(sources: list[MixSource]) -> list[MixSource]:
    if all(source.weight == 0.0 for source in sources):
        raise PydanticCustomError("weights", "The weights are all zero")
    return sources


class MixRequest(SamplesRequest):
    """`POST /mix`."""

    sources: Annotated[
        list[MixSource],
        Field(min_length=1, max_length=MAX_SOURCES, fail_fast=True),
        AfterValidator(_check_weights),
    ] = Field(description="the latents to mix")
    space: Space = Field("z", description="the space of the mixture; w only for models that have it")
    layers: list[Index] | None = Field(
        None, description="for each layer, the source of its style; instead of weights, for models with w"
    )
    label: OneLabel = Field(None, description="the class of sources without a label")


class NeighborsRequest(SamplesRequest):
    """`POST /neighbors`."""

    seed: Seed | None = Field(None, description="the seed of the center; default: drawn by the server")
    latent: Latent | None = Field(None, description="the latent of the center")
    label: OneLabel = Field(None, description="class index or name, or weights by class name; default: from the seed")
    num_samples: Count = Field(8, description="how many neighbors")
    angle: float = Field(20.0, ge=0, le=180, description="degrees between a neighbor's latent and the center's")
    neighbor_seed: Seed | None = Field(
        None,
        description="seed of the first neighbor's direction; the next ones count up; default: drawn by the server",
    )
    layout: Layout | None = Field(
        None,
        description="`separate`: one file per sample; else one file of all, as a `grid` or as the output kind has it",
    )
