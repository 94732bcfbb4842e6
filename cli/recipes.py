"""`latentd recipes`."""

import click

from latentd.training.recipes.files import read_recipe, recipe_names, recipe_path


@click.command()
def recipes() -> None:
    """List the recipes that come with latentd."""
    from rich.table import Table

    from latentd.training.report.tables import print_table

    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "data", "objective", "steps", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for name in recipe_names():
        recipe = read_recipe(recipe_path(name))
        table.add_row(name, recipe["data"]["name"], recipe["objective"], str(recipe["steps"]), recipe["description"])
    print_table(table)
