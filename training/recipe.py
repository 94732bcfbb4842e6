"""Recipes: everything that a training run depends on, as one small TOML file, validated as a whole."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from latentd.models.card import check_model_name
from latentd.models.errors import CheckpointError, LatentdError
from latentd.models.validation import first_problem
from latentd.training.objectives import OBJECTIVES
from latentd.training.settings.adversarial import AdversarialRecipe
from latentd.training.settings.autoencoder import AutoencoderRecipe, VariationalRecipe
from latentd.training.settings.base import Recipe, known
from latentd.training.settings.gaussian import GaussianRecipe

KINDS: dict[str, type[Recipe]] = {
    **dict.fromkeys(OBJECTIVES, AdversarialRecipe),
    "reconstruction": AutoencoderRecipe,
    "evidence": VariationalRecipe,
    "moments": GaussianRecipe,
}
"""What a recipe can say, by its objective."""

FOLDER = Path(__file__).parent / "recipes"


class RecipeError(LatentdError):
    """A recipe that cannot be read; the message names the file and the field."""


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
    kind = _kind(path, tables.get("objective"))
    try:
        # by way of JSON, whose strict mode takes a list for a tuple, but no text and no truth for a number
        recipe = kind.model_validate_json(json.dumps(tables, default=str), strict=True)
    except ValidationError as problem:
        named = str(first_problem(problem)).replace(f"data.{tables.get('data', {}).get('name')}.", "data.", 1)
        raise RecipeError(f"{path.name}: {named}") from problem
    if recipe.generator.conditional and recipe.data.class_names == ():
        raise RecipeError(f"{path.name}: generator.conditional: {recipe.data.name} has no classes")
    with torch.device("meta"):  # no memory is taken to see whether the networks can be built
        for table, build in recipe.builders.items():
            try:
                build(recipe.spec())
            except ValidationError as problem:
                raise RecipeError(f"{path.name}: {table}.config.{first_problem(problem)}") from problem
            except ValueError as problem:
                raise RecipeError(f"{path.name}: {table}: {problem}") from problem
    require_equal_shares(recipe, 1)
    return recipe.resolved()


def _kind(path: Path, objective: object) -> type[Recipe]:
    if not isinstance(objective, str):
        return Recipe  # which says what is wrong with it
    try:
        return KINDS[known("objective", objective, KINDS)]
    except ValueError as problem:
        raise RecipeError(f"{path.name}: objective: {problem}") from problem


def require_equal_shares(recipe: Recipe, ranks: int) -> None:
    """RecipeError where a batch cannot be shared among so many ranks and what else divides it."""
    divisors = recipe.divisors(ranks)
    if recipe.batch_size % math.prod(divisors.values()):
        named = " · ".join(f"{name}={divisor}" for name, divisor in divisors.items() if divisor > 1)
        raise RecipeError(f"batch_size={recipe.batch_size} (of all ranks together) is no multiple of {named}")
    together = recipe.batch_size // recipe.microbatches // ranks
    if together < recipe.min_batch:
        raise RecipeError(
            f"batch_size={recipe.batch_size} is computed in parts of {together}, but objective={recipe.objective} with "
            f"generator.latent.dim={recipe.generator.latent.dim} takes {recipe.min_batch} at once"
        )


def flatten(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """All values of nested tables, by the keys by which `settings` name them."""
    values: dict[str, Any] = {}
    for name, value in tables.items():
        values |= flatten(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return values


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
