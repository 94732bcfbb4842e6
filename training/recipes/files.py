"""The files of recipes, as they are written. Loads nothing that takes time; recipes/load.py validates."""

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from latentd.models.errors import UsageError
from latentd.models.suggestions import did_you_mean

RECIPE_DIRECTORY = Path(__file__).parent
_RENAMED_OBJECTIVES = {"evidence": "elbo", "moments": "gaussian"}
"""Names of objectives until 0.1. Recipes and runs with them are still read."""


class RecipeError(UsageError):
    """A recipe that cannot be used. The message names the file and the field."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with latentd."""
    return sorted(path.stem for path in RECIPE_DIRECTORY.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """Return the file of a shipped recipe, or the path itself if `name` is the path of a .toml file.

    Raises RecipeError if there is no such file.
    """
    path = Path(name) if name.endswith(".toml") else RECIPE_DIRECTORY / f"{name}.toml"
    exists = False
    with suppress(OSError):  # the name may be too long for the system
        exists = path.exists()
    if not exists:
        known = recipe_names()
        raise RecipeError(
            f"there is no recipe {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}, "
            "or the path of a .toml file"
        )
    return path


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the tables of a recipe's file. Raises RecipeError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise RecipeError(f"{path} cannot be read: {problem}") from problem


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's settings with values that were renamed by their current names."""
    objective = settings.get("objective")
    renamed = _RENAMED_OBJECTIVES.get(objective) if isinstance(objective, str) else None
    return {**settings, "objective": renamed} if renamed else dict(settings)


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted keys, as `--set` names them."""
    values: dict[str, Any] = {}
    for name, value in tables.items():
        values |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values
