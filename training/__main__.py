"""`python -m latentd.training`: the commands that torchrun starts, one process a device."""

from latentd.training.run.interrupt import exit_on_ctrl_c

with exit_on_ctrl_c():  # these imports take seconds
    import click

    from latentd.training.evaluation.command import evaluate
    from latentd.training.run.command import run_command, train


@click.group()
def training() -> None:
    """Train and evaluate generators: torchrun --nproc-per-node 8 -m latentd.training train RECIPE."""


training.add_command(train)
training.add_command(evaluate)

if __name__ == "__main__":
    run_command(training)
