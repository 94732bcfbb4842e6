"""`python -m latentd.training`: the commands that torchrun starts, one process a device."""

import click

from latentd.training.evaluation.command import evaluate
from latentd.training.program import Program, run_program
from latentd.training.run.command import train


@click.group(cls=Program)
def training() -> None:
    """Train and evaluate generators: torchrun --nproc-per-node 8 -m latentd.training train RECIPE."""


training.add_command(train)
training.add_command(evaluate)

if __name__ == "__main__":
    run_program(training)
