"""`GeneratorSpec`: all that a caller must know of a generator, as data that survives a round trip through JSON."""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor

from latentd.models.outputs import Output


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StyleSpace(_Part):
    """w: what a two-stage generator maps a latent to, a style [dim] for each layer."""

    layers: int = Field(ge=1, le=256)
    dim: int = Field(ge=1, le=65536)


class LatentInput(_Part):
    """A latent vector drawn from a seed."""

    kind: Literal["latent"] = "latent"
    dim: int = Field(ge=1, le=65536)
    distribution: Literal["normal", "uniform"] = "normal"
    """`normal`: independent N(0, 1). `uniform`: independent U(-1, 1)."""
    w: StyleSpace | None = None
    """The second stage of generators that have one."""

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A spec of one stage reads as before there were two: versions are made from its text."""
        return {name: value for name, value in handler(self).items() if name != "w" or value is not None}


class NoCondition(_Part):
    """The generator takes a latent alone."""

    kind: Literal["none"] = "none"


class ClassCondition(_Part):
    """The generator is told which of these classes to draw."""

    kind: Literal["classes"] = "classes"
    names: tuple[str, ...] = Field(min_length=1, max_length=65536, fail_fast=True)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("class names must be distinct")
        return self

    def index(self, label: int | str) -> int:
        """The class of this index or name; ValueError where there is none."""
        if isinstance(label, str) and label in self.names:
            return self.names.index(label)
        if isinstance(label, int) and 0 <= label < len(self.names):
            return label
        raise ValueError(f"unknown label {label!r}; known are 0 to {len(self.names) - 1} or {', '.join(self.names)}")

    def one_hot(self, indices: Tensor) -> Tensor:
        """Class indices [N] → condition rows [N, classes] as `Generator.forward` takes them."""
        return torch.nn.functional.one_hot(indices.long(), len(self.names)).float()


Condition = Annotated[NoCondition | ClassCondition, Field(discriminator="kind")]


class GeneratorSpec(_Part):
    """Which class a generator is, built with which arguments, and what goes in and comes out of it."""

    family: str = Field(min_length=1, max_length=64)
    config: dict[str, Any]
    input: LatentInput
    condition: Condition = NoCondition()
    output: Output
