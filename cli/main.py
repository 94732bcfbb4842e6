"""The command line: which commands there are.

A command's file imports nothing at the top that takes time: PyTorch and its like are imported when the command runs.
So help, completion and mistakes are answered at once.
"""

import click

from latentd.cli.bulk.command import bulk
from latentd.cli.directions import directions
from latentd.cli.promote.command import promote, promotions, rollback
from latentd.cli.publish import publish
from latentd.cli.recipes import recipes
from latentd.cli.reproduce.command import reproduce
from latentd.cli.runs.command import runs
from latentd.cli.sample import sample
from latentd.cli.serve import serve
from latentd.cli.show import show
from latentd.training.evaluation.command import evaluate
from latentd.training.program import Program, run_program
from latentd.training.run.command import train


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="latentd")
def latentd() -> None:
    """Train generators, serve them, evaluate and compare them, and sample from them."""


for command in (
    serve,
    recipes,
    train,
    runs,
    evaluate,
    sample,
    bulk,
    show,
    reproduce,
    directions,
    publish,
    promote,
    rollback,
    promotions,
):
    latentd.add_command(command)


def main() -> None:
    """Entry point."""
    run_program(latentd)
