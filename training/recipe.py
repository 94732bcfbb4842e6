"""Recipes: everything that a training run depends on, as one small TOML file, validated as a whole."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

from models.checkpoint import CheckpointError, check_model_name
from models.families import build_discriminator, build_generator, family_called
from models.spec import ClassCondition, Condition, GeneratorSpec, LatentInput, NoCondition
from models.validation import first_problem
from training.data import DataConfig
from training.objectives import OBJECTIVES

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


class Recipe(_Table):
    """One training run. The defaults are DCGAN's (Radford et al. 2015), but for the EMA."""

    description: str
    objective: str
    steps: PositiveInt
    """Generator updates."""
    batch_size: PositiveInt = 64
    discriminator_steps: PositiveInt = 1
    """Discriminator updates before each generator update."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    generator_lr: LearningRate = 2e-4
    discriminator_lr: LearningRate = 2e-4
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Adam's; RMSprop smooths its squares with the second."""
    ema_decay: Beta = 0.999
    save_seconds: Annotated[float, Field(gt=0.0)] = 60.0
    """How often the state is saved from which a run that ended can go on."""
    data: DataConfig
    generator: GeneratorTable
    discriminator: DiscriminatorTable = DiscriminatorTable()

    @field_validator("objective")
    @classmethod
    def _objective_exists(cls, name: str) -> str:
        if name not in OBJECTIVES:
            raise ValueError(f"unknown objective {name!r}; known are {', '.join(OBJECTIVES)}")
        return name

    def spec(self) -> GeneratorSpec:
        """The spec of the generator that this recipe trains, with the family's defaults filled in."""
        condition: Condition = NoCondition()
        if self.generator.conditional:
            condition = ClassCondition(names=self.data.class_names)
        family = family_called(self.generator.family)
        return GeneratorSpec(
            family=self.generator.family,
            config=family.generator_config.model_validate(self.generator.config).model_dump(mode="json"),
            input=self.generator.latent,
            condition=condition,
            output=self.data.output,
        )


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
        raise RecipeError(f"{path.name}: {first_problem(problem)}") from problem
    if recipe.generator.conditional and not recipe.data.class_names:
        raise RecipeError(f"{path.name}: generator.conditional: {recipe.data.name} has no classes")
    with torch.device("meta"):  # no memory is taken to see whether the networks can be built
        for table, build in (
            ("generator", lambda: build_generator(recipe.spec())),
            ("discriminator", lambda: build_discriminator(recipe.spec(), recipe.discriminator.config)),
        ):
            try:
                build()
            except ValidationError as problem:
                raise RecipeError(f"{path.name}: {table}.config.{first_problem(problem)}") from problem
            except ValueError as problem:
                raise RecipeError(f"{path.name}: {table}: {problem}") from problem
    return recipe


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
