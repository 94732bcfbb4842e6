"""`latentd recipes`."""

import click
from rich.table import Table

from latentd.training.recipes.load import load_recipe, recipe_names
from latentd.training.report.tables import print_table


@click.command()
def recipes() -> None:
    """List the recipes that come with latentd."""
    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "data", "objective", "steps", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for name in recipe_names():
        _, recipe = load_recipe(name)
        table.add_row(name, recipe.data.name, recipe.objective, str(recipe.steps), recipe.description)
    print_table(table)
