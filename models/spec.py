"""`GeneratorSpec`: what a caller must know about a generator, as data that survives a round trip through JSON."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from latentd.models.conditions.base import ConditionKind
from latentd.models.conditions.none import NoCondition
from latentd.models.inputs.base import InputKind
from latentd.models.kind import AnyKindOf
from latentd.models.outputs.base import OutputKind

AnyInput = Annotated[InputKind, AnyKindOf("latentd.models.inputs")]
AnyCondition = Annotated[ConditionKind, AnyKindOf("latentd.models.conditions")]
AnyOutput = Annotated[OutputKind, AnyKindOf("latentd.models.outputs")]


class GeneratorSpec(BaseModel):
    """The class of a generator, its arguments, its input and its output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = Field(min_length=1, max_length=64)
    config: dict[str, Any]
    input: AnyInput
    condition: AnyCondition = NoCondition()
    output: AnyOutput
