"""The bodies of requests, as pydantic models: what they may hold, before a model is looked up.

A body may hold a million mistakes; every check stops at the first, so that refusing costs no more than reading.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.latents import MAX_SEED

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Label = int | str


def _is_label(value: object) -> bool:
    return isinstance(value, Label) and not isinstance(value, bool)


def _check_labels(value: object) -> object:
    labels = value if isinstance(value, list) else [value]
    if value is not None and not all(map(_is_label, labels)):
        raise PydanticCustomError("label", "A label is a class index or name, or a list of these, one a sample")
    return value


class GenerateRequest(BaseModel):
    """`POST /generate`. A field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(None, description="`name` or `name@version`; default: the catalog's default model")
    num_samples: int | None = Field(None, ge=1, description="how many samples; default 1")
    seed: Seed | None = Field(None, description="seed of the first sample; the next ones count up; default: drawn")
    seeds: Annotated[list[Seed], Field(min_length=1, fail_fast=True)] | None = Field(
        None, description="explicit seeds instead of seed and num_samples"
    )
    latents: (
        Annotated[list[Annotated[list[float], Field(fail_fast=True)]], Field(min_length=1, fail_fast=True)] | None
    ) = Field(None, description="explicit latents instead of seeds")
    label: Annotated[Label | list[Label] | None, BeforeValidator(_check_labels)] = Field(
        None, description="class by index or name, or a list with one a sample; default: from the seed"
    )
    truncation: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="ψ: toward the mean latent; default 1"
    )
    format: str | None = Field(None, description="png, webp, jpeg, npy, json: what the model's output kind can be")
    layout: Literal["separate", "grid"] | None = Field(None, description="one file a sample, or one picture of all")

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_field(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unknown = next((name for name in data if name not in cls.model_fields), None)
        known = {name: value for name, value in data.items() if name in cls.model_fields}
        return known if unknown is None else {unknown: None} | known
