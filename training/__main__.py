"""`python -m training`: the part of the command `latentd` that torchrun starts, once a device."""

import click

from training.command import run_command, train


@click.group()
def training() -> None:
    """Train generators: torchrun --nproc-per-node 8 -m training train RECIPE."""


training.add_command(train)

if __name__ == "__main__":
    run_command(training)
