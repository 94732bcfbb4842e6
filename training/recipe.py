"""Recipes: everything that a training run depends on, as one small TOML file, validated as a whole."""

import json
import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from models.checkpoint import CheckpointError, check_model_name
from models.families import build_discriminator, build_generator, family_called
from models.family import Discriminator
from models.outputs import ImageOutput
from models.spec import ClassCondition, Condition, GeneratorSpec, LatentInput, NoCondition
from models.validation import first_problem
from training.augment import VIEWS
from training.data import DataConfig
from training.objectives import OBJECTIVES, Objective
from training.penalties import IMAGES_ONLY, PENALTIES, Penalty
from training.schedule import Decay

_UNREAD = ("0", "1")
"""Classes of data that nobody has read yet: enough to see whether networks can be built."""

FOLDER = Path(__file__).parent / "recipes"

LearningRate = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class RecipeError(Exception):
    """A recipe that cannot be read; the message names the file and the field."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratorTable(_Table):
    """The `[generator]` table: `config` is the family's own."""

    family: str
    latent: LatentInput
    config: dict[str, Any] = {}
    conditional: bool = False
    """Whether the generator is told the data's classes."""

    @field_validator("family")
    @classmethod
    def _family_exists(cls, name: str) -> str:
        family_called(name)
        return name


class DiscriminatorTable(_Table):
    """The `[discriminator]` table, of the generator's family."""

    config: dict[str, Any] = {}


class PenaltyTable(_Table):
    """One of `[penalties]`, by its name."""

    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    every: PositiveInt = 1
    """Computed at every so many updates, and then so many times as heavy."""


class AugmentTable(_Table):
    """The `[augment]` table: what the discriminator sees images through; with a `target`, adaptively."""

    views: tuple[str, ...] = Field(min_length=1)
    target: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """E[sign(D(x))] that p is adapted for; ADA's paper has 0.6. Without one, every image is changed by every view."""
    speed: PositiveInt = 500_000
    """Real images until p could rise from 0 to 1."""

    @field_validator("views")
    @classmethod
    def _views_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_known("view", name, VIEWS) for name in names)


class ScheduleTable(_Table):
    """The `[schedule]` table: how the learning rates change."""

    warmup: NonNegativeInt = 0
    """Steps until they are reached."""
    decay: Decay = "none"
    decay_from: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The share of the steps after which they fall, to reach zero after the last."""


class Recipe(_Table):
    """One training run. The defaults are DCGAN's (Radford et al. 2015), but for the EMA."""

    description: str
    objective: str
    steps: PositiveInt
    """Generator updates."""
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 64
    discriminator_steps: PositiveInt = 1
    """Discriminator updates before each generator update."""
    microbatches: PositiveInt = 1
    """Parts in which a batch is computed, to need less memory."""
    packing: PositiveInt = 1
    """Samples that the discriminator judges together."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """What the label of real samples falls short of 1."""
    penalties: dict[str, PenaltyTable] = {}
    """On the discriminator, beside those of the objective, or in their place."""
    augment: AugmentTable | None = None
    schedule: ScheduleTable = ScheduleTable()
    optimizer: Literal["adam", "rmsprop"] = "adam"
    generator_lr: LearningRate = 2e-4
    discriminator_lr: LearningRate = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Adam's; RMSprop smooths its squares with the second."""
    ema_decay: Beta = 0.999
    save_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """How often the state is saved from which a run that ended can go on."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of networks while they learn; `auto` is bfloat16 on CUDA and float32 elsewhere."""
    compile: bool = False
    """Whether networks go through torch.compile."""
    deterministic: bool = False
    """On CUDA, take only kernels that give the same bits again; on a CPU they all do."""
    data: DataConfig
    generator: GeneratorTable
    discriminator: DiscriminatorTable = DiscriminatorTable()

    @field_validator("objective")
    @classmethod
    def _objective_exists(cls, name: str) -> str:
        return _known("objective", name, OBJECTIVES)

    @field_validator("penalties")
    @classmethod
    def _penalties_exist(cls, tables: dict[str, PenaltyTable]) -> dict[str, PenaltyTable]:
        return {_known("penalty", name, PENALTIES): table for name, table in tables.items()}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        self.make_objective()
        if self.packing > 1 and self.generator.conditional:
            raise ValueError("packing: samples of several classes cannot be judged together; leave conditional away")
        images = isinstance(self.data.output, ImageOutput)
        if self.augment is not None and not images:
            raise ValueError("augment: there are views of images alone")
        if not images and (wrong := IMAGES_ONLY & self.penalties.keys()):
            raise ValueError(f"penalties.{min(wrong)}: there are views of images alone")
        return self

    def make_objective(self) -> Objective:
        """The objective with its labels smoothed; ValueError where it has none."""
        try:
            return OBJECTIVES[self.objective].smoothed(self.label_smoothing)
        except ValueError as problem:
            raise ValueError(f"label_smoothing: {self.objective}: {problem}") from problem

    def make_penalties(self) -> list[Penalty]:
        """Those of the objective and those of `penalties`, which take their places."""
        own = {name: PenaltyTable(weight=weight) for name, weight in OBJECTIVES[self.objective].penalties.items()}
        tables = own | self.penalties
        return [Penalty(PENALTIES[name], table.weight, table.every) for name, table in tables.items()]

    def spec(self, class_names: tuple[str, ...] | None = None) -> GeneratorSpec:
        """The spec of the generator that this recipe trains, with the family's defaults filled in.

        `class_names` are those of the data as it was read, where its settings do not say them.
        """
        condition: Condition = NoCondition()
        if self.generator.conditional:
            condition = ClassCondition(names=self.data.class_names or class_names or _UNREAD)
        family = family_called(self.generator.family)
        return GeneratorSpec(
            family=self.generator.family,
            config=family.generator_config.model_validate(self.generator.config).model_dump(mode="json"),
            input=self.generator.latent,
            condition=condition,
            output=self.data.output,
        )

    def resolved(self) -> "Recipe":
        """Itself, with the defaults of its networks' settings written out."""
        family = family_called(self.generator.family)
        generator = family.generator_config.model_validate(self.generator.config)
        discriminator = family.discriminator_config.model_validate(self.discriminator.config)
        return self.model_copy(
            update={
                "generator": self.generator.model_copy(update={"config": generator.model_dump(mode="json")}),
                "discriminator": DiscriminatorTable(config=discriminator.model_dump(mode="json")),
            }
        )

    def divisors(self, ranks: int) -> dict[str, int]:
        """What `batch_size` must be a multiple of, all taken together: name → number."""
        with torch.device("meta"):
            group = self.build_discriminator(self.spec()).group
        return {
            "ranks": ranks,
            "microbatches": self.microbatches,
            "packing": self.packing,
            "discriminator.config.minibatch_std": group,
        }

    def build_discriminator(self, spec: GeneratorSpec) -> Discriminator:
        """The discriminator for as many samples of `spec` as this recipe shows it together."""
        return build_discriminator(spec, self.discriminator.config, self.packing)


def _known(kind: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; known are {', '.join(known)}")
    return name


def recipe_names() -> list[str]:
    """The recipes that come with latentd."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str, settings: Sequence[str] = ()) -> tuple[str, Recipe]:
    """A shipped recipe by name, or one of your own by the path of its .toml file; returns its name and itself.

    Each of `settings` is `key=value`, with dots into tables (`generator.latent.dim=64`); values are read as TOML,
    else as plain text. RecipeError names the file and the field that does not fit.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecipeError(
            f"there is no recipe {name!r}; known are {', '.join(recipe_names())}, or the path of a .toml file"
        ) from None
    except (OSError, RecursionError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise RecipeError(f"{path} cannot be read: {problem}") from problem
    try:
        check_model_name(path.stem)  # what it trains will be called so
    except CheckpointError as problem:
        raise RecipeError(str(problem)) from problem
    for setting in settings:
        _apply(tables, setting)
    return path.stem, _validate(path, tables)


def _validate(path: Path, tables: dict[str, Any]) -> Recipe:
    try:
        # by way of JSON, whose strict mode takes a list for a tuple, but no text and no truth for a number
        recipe = Recipe.model_validate_json(json.dumps(tables, default=str), strict=True)
    except ValidationError as problem:
        named = str(first_problem(problem)).replace(f"data.{tables.get('data', {}).get('name')}.", "data.", 1)
        raise RecipeError(f"{path.name}: {named}") from problem
    if recipe.generator.conditional and recipe.data.class_names == ():
        raise RecipeError(f"{path.name}: generator.conditional: {recipe.data.name} has no classes")
    with torch.device("meta"):  # no memory is taken to see whether the networks can be built
        for table, build in (
            ("generator", lambda: build_generator(recipe.spec())),
            ("discriminator", lambda: recipe.build_discriminator(recipe.spec())),
        ):
            try:
                build()
            except ValidationError as problem:
                raise RecipeError(f"{path.name}: {table}.config.{first_problem(problem)}") from problem
            except ValueError as problem:
                raise RecipeError(f"{path.name}: {table}: {problem}") from problem
    require_equal_shares(recipe, 1)
    return recipe.resolved()


def require_equal_shares(recipe: Recipe, ranks: int) -> None:
    """RecipeError where a batch cannot be shared among so many ranks and what else divides it."""
    divisors = recipe.divisors(ranks)
    if recipe.batch_size % math.prod(divisors.values()):
        named = " · ".join(f"{name}={divisor}" for name, divisor in divisors.items() if divisor > 1)
        raise RecipeError(f"batch_size={recipe.batch_size} (of all ranks together) is no multiple of {named}")


def _apply(tables: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not (key and equals):
        raise RecipeError(f"a setting is key=value, not {setting!r}")
    *outer, last = key.split(".")
    for name in outer:
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            raise RecipeError(f"{setting!r}: {name} is a value, not a table")
    try:
        tables[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tables[last] = text
