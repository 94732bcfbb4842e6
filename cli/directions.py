"""The command `latentd directions`."""

from pathlib import Path

import click
import torch
from rich.table import Table

from latentd.models.checkpoint import Checkpoint
from latentd.models.directions import Directions
from latentd.models.hardware import use_serving_threads
from latentd.models.seeds import MAX_SEED
from latentd.training.directions.find import find_directions
from latentd.training.report.tables import print_table
from latentd.training.run.directory import OutputError

_MIN_SAMPLES, _MAX_SAMPLES = 256, 65536


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
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
def directions(checkpoint: Path, samples: int, seed: int) -> None:
    """Find interpretable directions in the latent space of CHECKPOINT's generator.

    Writes NAME.directions.safetensors beside CHECKPOINT, and replaces an older one.
    """
    read = Checkpoint.read(checkpoint)
    use_serving_threads(torch.device("cpu"))
    found = find_directions(read, samples, seed)
    try:
        path = found.write(checkpoint)
    except OSError as problem:
        raise OutputError(f"the directions of {checkpoint} could not be written ({problem})") from problem
    _print(found)
    click.echo(f"{path}: {len(found.names)} directions of {read.name}@{read.version}, version {found.version}")


def _print(found: Directions) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("direction", "method", "score", "measure", "effect"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=heading != "effect")
    for each in found.card.directions:
        table.add_row(each.name, each.method, f"{each.score:.3f}", each.scored, each.about)
    print_table(table)
