"""`latentd show`."""

import json
import sys
from pathlib import Path

import click

from latentd.training.program import CHECKPOINT


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
def show(checkpoint: Path) -> None:
    """Print CHECKPOINT's name, version and card as JSON.

    CHECKPOINT is a .safetensors file, a run, or the name of a model. Its weights are not read.
    """
    from latentd.models.card import read_header

    name, version, card = read_header(checkpoint)
    shown = {"name": name, "version": version} | card.model_dump(mode="json")
    has_unicode = sys.stdout.encoding.lower().startswith("utf")
    click.echo(json.dumps(shown, indent=2, ensure_ascii=not has_unicode))
