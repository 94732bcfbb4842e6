"""The settings that all recipes have, and what each class of recipes must provide."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from torch import nn

from latentd.models.card import DataCard
from latentd.models.conditions.base import ConditionKind
from latentd.models.conditions.classes import ClassCondition
from latentd.models.conditions.none import NoCondition
from latentd.models.families import build_generator, get_family
from latentd.models.inputs.base import InputKind
from latentd.models.inputs.latent import LatentInput
from latentd.models.spec import GeneratorSpec
from latentd.models.suggestions import unknown
from latentd.training.data.sets import DataConfig
from latentd.training.recipes.files import flatten
from latentd.training.schedule import Decay

if TYPE_CHECKING:
    from latentd.training.algorithms.base import Algorithm
    from latentd.training.build import BuildContext

LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]

_PLACEHOLDER = ClassCondition(names=("0", "1"))
"""Stands for the condition of data that has not been read yet. Enough to check that networks can be built."""
_MAY_CHANGE = {"steps", "save_seconds", "description", "compile", "microbatches"}
"""Settings that may change when a run resumes. (`microbatches` changes rounding and batch statistics alone.)"""


class Table(BaseModel):
    """A table of a recipe. Unknown keys and values that do not fit are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkTable(Table):
    """The table of a network, such as `[discriminator]`. `config` holds the settings of its family."""

    family: str | None = None
    """Default: the generator's family."""
    config: dict[str, Any] = {}

    @field_validator("family")
    @classmethod
    def _family_exists(cls, name: str | None) -> str | None:
        if name is not None:
            get_family(name)
        return name


class GeneratorTable(NetworkTable):
    """The `[generator]` table."""

    family: str
    conditional: bool = False
    """Whether the generator is conditioned on the data's classes or captions."""


class LatentGeneratorTable(GeneratorTable):
    """The `[generator]` table of a generator whose input is a latent."""

    latent: LatentInput


class ScheduleTable(Table):
    """The `[schedule]` table: how the learning rates change."""

    warmup: NonNegativeInt = 0
    """Steps in which the learning rates rise from 0."""
    decay: Decay = "none"
    decay_from: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Fraction of the steps after which the learning rates fall. They reach 0 after the last step."""


class Recipe(Table, ABC):
    """Everything that a training run depends on, besides data and seed."""

    description: str
    objective: str
    steps: PositiveInt
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 64
    microbatches: PositiveInt = 1
    """Number of parts in which a batch is computed, to save memory."""
    save_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """Seconds between two saves of the state from which a run can resume."""
    deterministic: bool = False
    """On CUDA, use only kernels that give the same bits each time. On a CPU all kernels do."""
    begin_from: dict[str, str] = {}
    """Network → a checkpoint file or a run folder with its first weights. `generator.NAME` is a part of a network."""
    data: DataConfig
    generator: GeneratorTable

    @field_validator("begin_from", mode="before")
    @classmethod
    def _parts_have_dotted_names(cls, tables: Any) -> Any:
        return flatten(tables) if isinstance(tables, Mapping) else tables

    @abstractmethod
    def build(self, context: "BuildContext") -> "Algorithm":
        """Return the algorithm of this recipe, its networks freshly initialized."""

    @property
    @abstractmethod
    def input(self) -> InputKind:
        """What the generator takes."""

    @property
    def min_batch(self) -> int:
        """Smallest number of samples that a rank can compute at once (in one microbatch)."""
        return 1

    @property
    def batches_per_step(self) -> int:
        """Number of batches of real samples that a step takes."""
        return 1

    @property
    def images_per_step(self) -> int:
        """Number of real samples that a step takes, on all ranks together."""
        return self.batches_per_step * self.batch_size

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        """Functions that build a network with random weights, by the name of its table.

        They raise pydantic's ValidationError for a wrong config, and ValueError for a network that cannot be built.
        """
        return {"generator": build_generator}

    def resolved(self) -> Self:
        """Return a copy with the defaults of the networks' configs written out."""
        tables = {}
        for name in self.builders:
            table: NetworkTable = getattr(self, name)
            config = self.config_class(name).model_validate(table.config).model_dump(mode="json")
            tables[name] = table.model_copy(update={"config": config})
        return self.model_copy(update=tables)

    def config_class(self, network: str) -> type[BaseModel]:
        """Return the class of the settings in the `config` of a network's table."""
        table: NetworkTable = getattr(self, network)
        found: type[BaseModel] = getattr(get_family(table.family or self.generator.family), f"{network}_config")
        return found

    def spec(self, condition: ConditionKind | None = None) -> GeneratorSpec:
        """Return the spec of the generator that this recipe trains, with the family's defaults written out.

        `condition`: what the data says of each sample; None before the data is read.
        """
        known = condition or self.data.condition or _PLACEHOLDER
        family = get_family(self.generator.family)
        return GeneratorSpec(
            family=self.generator.family,
            config=family.generator_config.model_validate(self.generator.config).model_dump(mode="json"),
            input=self.input,
            condition=known if self.generator.conditional else NoCondition(),
            output=self.data.output,
        )

    def batch_divisors(self, ranks: int) -> dict[str, int]:
        """Return name → number. `batch_size` must be a multiple of the product of all."""
        return {"ranks": ranks, "microbatches": self.microbatches}

    def advice(self, data: DataCard) -> str | None:
        """Return what to consider before a new run trains on this data; None if there is nothing to say."""
        return None

    def resume_key(self) -> dict[str, Any]:
        """Return the settings that decide what a step does. They must not change when a run resumes."""
        return self.model_dump(mode="json", exclude=_MAY_CHANGE)


class LatentRecipe(Recipe):
    """A recipe of a generator whose input is a latent."""

    generator: LatentGeneratorTable

    needs_normal_latents: ClassVar[bool] = False

    @model_validator(mode="after")
    def _latents_fit(self) -> Self:
        if self.needs_normal_latents and self.input.distribution != "normal":
            raise ValueError(f"generator.latent.distribution: {self.objective} needs normal latents")
        return self

    @property
    def input(self) -> LatentInput:
        return self.generator.latent


class OptimizedRecipe(Recipe):
    """A recipe whose networks are trained by an optimizer."""

    schedule: ScheduleTable = ScheduleTable()
    optimizer: Literal["adam", "rmsprop"] = "adam"
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Adam's. RMSprop uses the second one as its smoothing constant."""
    ema_decay: Beta = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of networks during training. `auto` is bfloat16 on CUDA and float32 elsewhere."""
    compile: bool = False
    """Whether to compile networks with torch.compile."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.schedule.warmup > self.steps:
            raise ValueError(f"schedule.warmup: {self.schedule.warmup} is more than steps={self.steps}")
        return self

    def resume_key(self) -> dict[str, Any]:
        ends = {} if self.schedule.decay == "none" else {"steps": self.steps}
        return super().resume_key() | ends


def require_known(kind: str, name: str, names: Collection[str]) -> str:
    """Return `name`. ValueError that lists `names` if it is not one of them."""
    if name not in names:
        raise ValueError(unknown(kind, name, names))
    return name
