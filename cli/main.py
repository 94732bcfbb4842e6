"""The command line: which commands there are, and how errors are printed."""

import sys
from pathlib import Path

from latentd.training.run.interrupt import exit_on_ctrl_c

try:
    Path.cwd()
except FileNotFoundError:  # torch would abort with a misleading text
    sys.exit("error: the current folder does not exist any more; change to another one")

with exit_on_ctrl_c():  # loading the libraries takes seconds
    import logging

    import click

    from latentd.cli.bulk.command import bulk
    from latentd.cli.directions import directions
    from latentd.cli.promote import promote, promotions, rollback
    from latentd.cli.publish import publish
    from latentd.cli.recipes import recipes
    from latentd.cli.reproduce import reproduce
    from latentd.cli.runs import runs
    from latentd.cli.sample import sample
    from latentd.cli.serve import serve
    from latentd.cli.show import show
    from latentd.training.evaluation.command import evaluate
    from latentd.training.run.command import run_command, train


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    run_command(latentd)
