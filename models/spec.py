"""`GeneratorSpec`: what a caller must know of a generator, as data that survives a round trip through JSON."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from latentd.models.outputs import Output


class _SpecModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StyleSpace(_SpecModel):
    """w, the output of a two-stage generator's mapping network: a style [dim] for each layer."""

    layers: int = Field(ge=1, le=256)
    dim: int = Field(ge=1, le=65536)


class LatentInput(_SpecModel):
    """A latent vector drawn from a seed."""

    kind: Literal["latent"] = "latent"
    dim: int = Field(ge=1, le=65536)
    distribution: Literal["normal", "uniform"] = "normal"
    """`normal`: independent N(0, 1). `uniform`: independent U(-1, 1)."""
    w: StyleSpace | None = None
    """Only of two-stage generators."""

    @model_serializer(mode="wrap")
    def _leave_out_absent_w(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize one-stage specs as before `w` existed, because versions are made from this text."""
        return {name: value for name, value in handler(self).items() if name != "w" or value is not None}


class NoCondition(_SpecModel):
    """The generator takes nothing but a latent."""

    kind: Literal["none"] = "none"


class ClassCondition(_SpecModel):
    """The generator takes the class of the sample as well."""

    kind: Literal["classes"] = "classes"
    names: tuple[str, ...] = Field(min_length=1, max_length=65536, fail_fast=True)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("class names must be distinct")
        return self

    def index(self, label: int | str) -> int:
        """Return the index of a class given by index or name. Raises ValueError if there is no such class."""
        if isinstance(label, str) and label in self.names:
            return self.names.index(label)
        if isinstance(label, int) and 0 <= label < len(self.names):
            return label
        raise ValueError(f"unknown label {label!r}; known are 0 to {len(self.names) - 1} or {', '.join(self.names)}")


Condition = Annotated[NoCondition | ClassCondition, Field(discriminator="kind")]


class GeneratorSpec(_SpecModel):
    """The class of a generator, its arguments, its input and its output."""

    family: str = Field(min_length=1, max_length=64)
    config: dict[str, Any]
    input: LatentInput
    condition: Condition = NoCondition()
    output: Output
