"""The command line: which commands there are, and how an error reaches the person at the terminal."""

import logging
import sys

import click

from cli.recipes import recipes
from cli.reproduce import reproduce
from cli.sample import sample
from cli.show import show
from cli.train import train
from models.checkpoint import CheckpointError
from training.data.source import DataError
from training.loop import TrainingDiverged
from training.recipe import RecipeError
from training.run import OutputError
from training.state import StateError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="latentd")
def latentd() -> None:
    """Train generators, sample from them, look into their checkpoints, and make samples again."""


for command in (recipes, train, sample, show, reproduce):
    latentd.add_command(command)


def main() -> None:
    """Entry point; an error that the user can mend is one line and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
    try:
        latentd()
    except (CheckpointError, DataError, OutputError, RecipeError, StateError, TrainingDiverged) as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(1)
