"""What recipes of every kind say, and what a kind of recipe must know of itself."""

from abc import ABC
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from torch import nn

from latentd.models.families import build_generator, get_family
from latentd.models.spec import ClassCondition, Condition, GeneratorSpec, LatentInput, NoCondition
from latentd.training.data import DataConfig
from latentd.training.schedule import Decay

LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]

_UNREAD = ("0", "1")
"""Classes of data that nobody has read yet: enough to see whether networks can be built."""
_MAY_CHANGE = {"steps", "save_seconds", "description", "compile", "microbatches"}
"""On the way: a batch is the same in however many parts it is computed, but for rounding and batch statistics."""


class Table(BaseModel):
    """Names and values that do not fit are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkTable(Table):
    """The table of a network, by whose name it is called: `config` is its family's own."""

    config: dict[str, Any] = {}


class GeneratorTable(NetworkTable):
    """The `[generator]` table; its family is that of all networks."""

    family: str
    latent: LatentInput
    conditional: bool = False
    """Whether the generator is told the data's classes."""

    @field_validator("family")
    @classmethod
    def _family_exists(cls, name: str) -> str:
        get_family(name)
        return name


class ScheduleTable(Table):
    """The `[schedule]` table: how the learning rates change."""

    warmup: NonNegativeInt = 0
    """Steps until they are reached; no more than the run has."""
    decay: Decay = "none"
    decay_from: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The share of the steps after which they fall, to reach zero after the last."""


class Recipe(Table, ABC):
    """One training run."""

    description: str
    objective: str
    steps: PositiveInt
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 64
    microbatches: PositiveInt = 1
    """Parts in which a batch is computed, to need less memory."""
    save_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """How often the state is saved from which a run that ended can go on."""
    deterministic: bool = False
    """On CUDA, take only kernels that give the same bits again; on a CPU they all do."""
    data: DataConfig
    generator: GeneratorTable

    @property
    def min_batch(self) -> int:
        """Samples that must at least be computed at once, on a rank and in a microbatch."""
        return 1

    @property
    def batches_per_step(self) -> int:
        """How many batches of real samples a step takes."""
        return 1

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        """What builds each network, with freshly drawn weights, by the name of its table.

        Raises what pydantic does for a wrong config, and ValueError for a network that cannot be.
        """
        return {"generator": build_generator}

    def resolved(self) -> Self:
        """Itself, with the defaults of its networks' settings written out."""
        family = get_family(self.generator.family)
        tables = {}
        for name in self.builders:
            table, config_class = getattr(self, name), getattr(family, f"{name}_config")
            config = config_class.model_validate(table.config).model_dump(mode="json")
            tables[name] = table.model_copy(update={"config": config})
        return self.model_copy(update=tables)

    def spec(self, class_names: tuple[str, ...] | None = None) -> GeneratorSpec:
        """The spec of the generator that this recipe trains, with the family's defaults filled in.

        `class_names` are those of the data as it was read, where its settings do not say them.
        """
        condition: Condition = NoCondition()
        if self.generator.conditional:
            condition = ClassCondition(names=self.data.class_names or class_names or _UNREAD)
        family = get_family(self.generator.family)
        return GeneratorSpec(
            family=self.generator.family,
            config=family.generator_config.model_validate(self.generator.config).model_dump(mode="json"),
            input=self.generator.latent,
            condition=condition,
            output=self.data.output,
        )

    def divisors(self, ranks: int) -> dict[str, int]:
        """What `batch_size` must be a multiple of, all taken together: name → number."""
        return {"ranks": ranks, "microbatches": self.microbatches}

    def require_normal_latents(self) -> None:
        """ValueError where they are not."""
        if self.generator.latent.distribution != "normal":
            raise ValueError(f"generator.latent.distribution: {self.objective} is for normal latents alone")

    def resume_key(self) -> dict[str, Any]:
        """The settings that decide what a step does: what must not change while a run goes on."""
        return self.model_dump(mode="json", exclude=_MAY_CHANGE)


class LearntRecipe(Recipe):
    """One whose networks learn step by step, downhill."""

    schedule: ScheduleTable = ScheduleTable()
    optimizer: Literal["adam", "rmsprop"] = "adam"
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Adam's; RMSprop smooths its squares with the second."""
    ema_decay: Beta = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of networks while they learn; `auto` is bfloat16 on CUDA and float32 elsewhere."""
    compile: bool = False
    """Whether networks go through torch.compile."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.schedule.warmup > self.steps:
            raise ValueError(f"schedule.warmup: {self.schedule.warmup} is more than steps={self.steps}")
        return self

    def resume_key(self) -> dict[str, Any]:
        ends = {} if self.schedule.decay == "none" else {"steps": self.steps}
        return super().resume_key() | ends


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, if it is one of `names`; ValueError that lists them where it is not."""
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(names)}")
    return name
