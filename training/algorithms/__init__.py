"""The algorithms that train generators, and the registry that finds them.

Each module in this folder but `base` is an algorithm: its recipe class, how it is built, what it does in a step, and
what a state file holds of it. It defines `RECIPES`: objective → the class of recipes that have this objective.
"""

from latentd.models.kind import members
from latentd.training.recipes.base import Recipe


def recipe_classes() -> dict[str, type[Recipe]]:
    """Return the class of recipes of each objective."""
    found: dict[str, type[Recipe]] = {}
    for classes in members(__name__, "RECIPES").values():
        found |= classes
    return found
