"""`latentd show`."""

import json
import sys
from pathlib import Path

import click

from latentd.models.checkpoint import Checkpoint


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def show(checkpoint: Path) -> None:
    """Print CHECKPOINT's name, version and card as JSON."""
    read = Checkpoint.read(checkpoint)
    card = {"name": read.name, "version": read.version} | read.card.model_dump(mode="json")
    has_unicode = sys.stdout.encoding.lower().startswith("utf")
    click.echo(json.dumps(card, indent=2, ensure_ascii=not has_unicode))
