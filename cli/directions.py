"""The command `latentd directions`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentd.models.errors import UsageError
from latentd.models.file_names import DIRECTIONS_ENDING, sidecar_path
from latentd.models.protected_files import protection
from latentd.models.seeds import MAX_SEED
from latentd.training.program import CHECKPOINT
from latentd.training.run.interrupt import exit_on_ctrl_c

if TYPE_CHECKING:
    from latentd.models.directions import Directions

_MIN_SAMPLES, _MAX_SAMPLES = 256, 65536


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
@click.option(
    "--samples",
    type=click.IntRange(_MIN_SAMPLES, _MAX_SAMPLES),
    default=4096,
    show_default=True,
    help="Number of samples to measure.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED - _MAX_SAMPLES),
    default=0,
    show_default=True,
    help="Seed of the first sample.",
)
@click.option("--force", is_flag=True, help="Write also a file that comes with latentd or that git tracks.")
def directions(checkpoint: Path, samples: int, seed: int, force: bool) -> None:
    """Find interpretable directions in the latent space of CHECKPOINT's generator.

    CHECKPOINT is a .safetensors file, a run, or the name of a model. Writes NAME.directions.safetensors beside it, and
    replaces an older one.
    """
    file = sidecar_path(checkpoint, DIRECTIONS_ENDING)
    if not force and (reason := protection(file)):
        raise UsageError(f"{file} {reason}; replace it with --force, or copy {checkpoint.name} to another folder first")
    with exit_on_ctrl_c():
        import torch

        from latentd.models.checkpoint import Checkpoint
        from latentd.models.directions import require_direction_space
        from latentd.models.hardware import use_serving_threads
        from latentd.training.directions.find import find_directions
        from latentd.training.run.directory import OutputError
        from latentd.training.run.progress import Display

    read = Checkpoint.read(checkpoint)
    try:
        require_direction_space(read.card.spec)
    except ValueError as problem:
        raise UsageError(f"{read.name}: {problem}") from problem
    use_serving_threads(torch.device("cpu"))
    with Display(hidden=False) as display:
        found = find_directions(read, samples, seed, display.update)
    try:
        path = found.write(checkpoint)
    except OSError as problem:
        raise OutputError(f"the directions of {checkpoint} could not be written ({problem})") from problem
    _print(found)
    click.echo(f"{path}: {len(found.names)} directions of {read.name}@{read.version}, version {found.version}")


def _print(found: "Directions") -> None:
    from rich.table import Table

    from latentd.training.report.tables import print_table

    table = Table(box=None, pad_edge=False)
    for heading in ("direction", "method", "score", "measure", "effect"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=heading != "effect")
    for each in found.card.directions:
        table.add_row(each.name, each.method, f"{each.score:.3f}", each.scored, each.about)
    print_table(table)
