"""Recipes: everything that a training run depends on, as one small TOML file that is validated as a whole."""

import json
import logging
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from latentd.models.errors import CheckpointError
from latentd.models.file_names import check_model_name
from latentd.models.validation import first_problem
from latentd.training.algorithms import recipe_classes
from latentd.training.recipes.base import Recipe, require_known
from latentd.training.recipes.files import RecipeError, read_recipe, recipe_names, recipe_path, with_current_names
from latentd.training.recipes.hints import hint

logger = logging.getLogger(__name__)


def load_recipe(name: str, settings: Sequence[str] = ()) -> tuple[str, Recipe]:
    """Load a shipped recipe by its name, or another one by the path of its .toml file. Return its name and itself.

    Each of `settings` is `key=value`, with dots for tables (`generator.latent.dim=64`). A value is read as TOML; if
    that fails, it is taken as text. RecipeError names the file and the first field that does not fit.
    """
    path = recipe_path(name)
    tables = read_recipe(path)
    try:
        check_model_name(path.stem)  # the trained model gets this name
    except CheckpointError as problem:
        raise RecipeError(str(problem)) from problem
    own_objective = tables.get("objective")
    for setting in settings:
        _apply(tables, setting)
    try:
        return path.stem, _validate(path, tables)
    except RecipeError as problem:
        if advice := _advice_on_objective(own_objective, tables.get("objective")):
            rest = str(problem).removeprefix(f"{path.name}: ")
            raise RecipeError(f"{path.name}: objective: {advice}. Otherwise, change this: {rest}") from problem
        raise


def _validate(path: Path, tables: dict[str, Any]) -> Recipe:
    current = with_current_names(tables)
    if current != tables:
        logger.warning(
            "%s: objective %r is called %r now; the old name will be dropped in a later version",
            path.name,
            tables["objective"],
            current["objective"],
        )
    recipe_class = _recipe_class(path, current.get("objective"))
    try:
        # by way of JSON: its strict mode takes a list for a tuple, but refuses a string or a bool for a number
        recipe = recipe_class.model_validate_json(json.dumps(current, default=str), strict=True)
    except ValidationError as problem:
        data = tables.get("data")
        own = f"data.{data.get('name')}." if isinstance(data, dict) else "data."
        named = str(first_problem(problem, recipe_class)).replace(own, "data.", 1)
        raise RecipeError(f"{path.name}: {named}{hint(problem.errors(include_url=False)[0])}") from problem
    if recipe.generator.conditional and recipe.data.condition and not recipe.data.condition.size:
        raise RecipeError(f"{path.name}: generator.conditional: {recipe.data.name} has no classes")
    with torch.device("meta"):  # checks that the networks can be built, without taking memory
        for table, build in recipe.builders.items():
            try:
                build(recipe.spec())
            except ValidationError as problem:
                named = f"{table}.config.{first_problem(problem, recipe.config_class(table))}"
                written = hint(problem.errors(include_url=False)[0])
                raise RecipeError(f"{path.name}: {named}{written}") from problem
            except ValueError as problem:
                raise RecipeError(f"{path.name}: {table}: {problem}") from problem
    require_divisible_batch(recipe, 1)
    return recipe.resolved()


def _advice_on_objective(before: Any, after: Any) -> str:
    """Return which recipes to begin with, if a setting asks for the objective of another kind of recipe; else empty."""
    before, after = (str(with_current_names({"objective": each})["objective"]) for each in (before, after))
    classes = recipe_classes()
    wanted = classes.get(after)
    if wanted is None or wanted is classes.get(before):
        return ""
    shipped = {name: read_recipe(recipe_path(name))["objective"] for name in recipe_names()}
    exact = [name for name, objective in shipped.items() if objective == after]
    fitting = exact or [name for name, objective in shipped.items() if classes[objective] is wanted]
    instead = f"begin with {' or '.join(fitting)}" if fitting else "write a recipe of your own"
    return f"{after} belongs to another kind of recipe, with other settings; {instead}"


def _recipe_class(path: Path, objective: object) -> type[Recipe]:
    if not isinstance(objective, str):
        return Recipe  # its validation says what is wrong
    try:
        classes = recipe_classes()
        return classes[require_known("objective", objective, classes)]
    except ValueError as problem:
        raise RecipeError(f"{path.name}: objective: {problem}") from problem


def require_divisible_batch(recipe: Recipe, ranks: int) -> None:
    """Raise RecipeError if a batch cannot be split over `ranks`, microbatches and groups, or parts get too small."""
    divisors = recipe.batch_divisors(ranks)
    if recipe.batch_size % math.prod(divisors.values()):
        named = " · ".join(f"{name}={divisor}" for name, divisor in divisors.items() if divisor > 1)
        raise RecipeError(f"batch_size={recipe.batch_size} (of all ranks together) is not a multiple of {named}")
    at_once = recipe.batch_size // recipe.microbatches // ranks
    if at_once < recipe.min_batch:
        raise RecipeError(
            f"batch_size={recipe.batch_size} is computed in parts of {at_once}, but objective={recipe.objective} with "
            f"inputs of {recipe.input.size} numbers needs at least {recipe.min_batch} at once"
        )


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
