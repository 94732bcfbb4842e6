"""The bodies of requests, as pydantic models: what they may hold, before a model is looked up.

A body may hold a million mistakes; every check stops at the first, so that refusing costs no more than reading.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from latentd.models.directions import MAX_DIRECTIONS
from latentd.models.latents import MAX_SEED

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
ClassName = int | str
Blend = dict[str, float]
"""Classes by name, with their shares, which add up to 1."""
Label = ClassName | Blend
Latent = Annotated[list[float], Field(min_length=1, fail_fast=True)]
Space = Literal["z", "w"]

DirectionsVersion = Annotated[str, Field(max_length=100)]

MAX_KEYFRAMES = 64
MAX_SOURCES = 64
MAX_STEPS = 4096
MAX_SCALE = 16


def _is_label(value: object) -> bool:
    return isinstance(value, ClassName) and not isinstance(value, bool)


def _check_labels(value: object) -> object:
    if isinstance(value, list):
        if not all(map(_is_label, value)):
            raise PydanticCustomError("label", "A list of labels has a class index or name for each sample")
        return value
    return _check_label(value)


def _check_label(value: object) -> object:
    if isinstance(value, dict):
        if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in value.values()):
            raise PydanticCustomError("label", "A label of several classes gives each a share from 0 to 1, by its name")
    elif value is not None and not _is_label(value):
        raise PydanticCustomError("label", "A label is a class index or name, or shares of classes by their names")
    return value


def _check_amounts(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_DIRECTIONS:
        raise PydanticCustomError("directions", f"A request may name at most {MAX_DIRECTIONS} directions")
    return value


Amounts = Annotated[dict[str, float], BeforeValidator(_check_amounts)]
"""How far to go along directions, by name."""
OneLabel = Annotated[Label | None, BeforeValidator(_check_label)]


class _Body(BaseModel):
    """A field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_field(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unknown = next((name for name in data if name not in cls.model_fields), None)
        known = {name: value for name, value in data.items() if name in cls.model_fields and value is not None}
        return known if unknown is None else {unknown: None} | known


class SamplesRequest(_Body):
    """What every request for samples may say."""

    model: str | None = Field(None, description="`name` or `name@version`; default: the catalog's default model")
    truncation: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="ψ: toward the mean latent; default 1"
    )
    directions: Amounts | None = Field(
        None, description="how far to go along the model's directions, by name; 1 is a standard deviation of latents"
    )
    directions_version: DirectionsVersion | None = Field(
        None, description="which directions are meant; refused where others are served"
    )
    format: str | None = Field(None, description="png, webp, jpeg, npy, json: what the model's output kind can be")


class GenerateRequest(SamplesRequest):
    """`POST /generate`."""

    num_samples: int | None = Field(None, ge=1, description="how many samples; default 1")
    seed: Seed | None = Field(None, description="seed of the first sample; the next ones count up; default: drawn")
    seeds: Annotated[list[Seed], Field(min_length=1, fail_fast=True)] | None = Field(
        None, description="explicit seeds instead of seed and num_samples"
    )
    latents: (
        Annotated[list[Annotated[list[float], Field(fail_fast=True)]], Field(min_length=1, fail_fast=True)] | None
    ) = Field(None, description="explicit latents instead of seeds")
    label: Annotated[Label | list[ClassName] | None, BeforeValidator(_check_labels)] = Field(
        None,
        description="class by index or name, or a list with one a sample, or shares of classes by name; "
        "default: from the seed",
    )
    layout: Literal["separate", "grid"] | None = Field(None, description="one file a sample, or one picture of all")


class LatentPoint(_Body):
    """A place in latent space: a seed or a latent, and a class."""

    seed: Seed | None = Field(None, description="names a latent, and a class where no label is given")
    latent: Latent | None = Field(None, description="a latent itself")
    label: OneLabel = Field(None, description="class by index or name, or shares of classes by name")


class InterpolateRequest(SamplesRequest):
    """`POST /interpolate`."""

    keyframes: Annotated[list[LatentPoint], Field(min_length=2, max_length=MAX_KEYFRAMES, fail_fast=True)] = Field(
        description="two or more places to go by"
    )
    steps: int = Field(16, ge=2, le=MAX_STEPS, description="frames a segment, its two keyframes among them")
    loop: bool = Field(False, description="back to the first keyframe, which is not repeated")
    method: Literal["slerp", "lerp"] | None = Field(
        None, description="along the sphere or straight; default slerp for normal z, lerp for uniform z and for w"
    )
    space: Space = Field("z", description="where the way goes; w only for models that have it")
    easing: Literal["linear", "smooth"] = Field("linear", description="smooth: at rest at every keyframe")
    label: OneLabel = Field(None, description="the class of keyframes that name none")
    layout: Literal["separate", "grid", "animation"] | None = Field(
        None, description="one file a frame, one picture of all, or a film"
    )
    fps: int | None = Field(None, ge=1, le=60, description="frames a second of an animation; default 24")
    scale: int | None = Field(None, ge=1, le=MAX_SCALE, description="whole factor that enlarges an animation")
    filter: Literal["nearest", "lanczos"] | None = Field(None, description="how it is enlarged; default nearest")


class MixSource(LatentPoint):
    """One of the places that are mixed."""

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
    ] = Field(description="what is mixed")
    space: Space = Field("z", description="where it is mixed; w only for models that have it")
    layers: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="for each layer's style, which source it is from; for models with w, instead of weights"
    )
    label: OneLabel = Field(None, description="the class of sources that name none")


class NeighborsRequest(SamplesRequest):
    """`POST /neighbors`."""

    seed: Seed | None = Field(None, description="the seed whose neighbours are wanted; default: drawn")
    latent: Latent | None = Field(None, description="the latent whose neighbours are wanted")
    label: OneLabel = Field(None, description="class; default: that of the seed")
    num_samples: int = Field(8, ge=1, description="how many neighbours")
    angle: float = Field(20.0, ge=0, le=180, description="degrees between a neighbour's latent and the centre's")
    neighbor_seed: Seed | None = Field(
        None, description="names the first neighbour's side; the next ones count up; default: drawn"
    )
    layout: Literal["separate", "grid"] | None = Field(None, description="one file a sample, or one picture of all")
