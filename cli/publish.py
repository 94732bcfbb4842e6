"""`latentd publish`."""

import shutil
from pathlib import Path
from typing import Any

import click

from latentd.models.file_names import SUFFIX
from latentd.training.program import CHECKPOINT
from latentd.training.run.interrupt import exit_on_ctrl_c


@click.command()
@click.argument("checkpoint", type=CHECKPOINT)
def publish(checkpoint: Path) -> None:
    """Copy CHECKPOINT to BentoML's model store as NAME:VERSION, with its card and sidecar files.

    A version in the store never changes. LATENTD_MODELS=bento:NAME:latest serves it.
    """
    with exit_on_ctrl_c():
        import bentoml
        from bentoml.exceptions import BentoMLException

        from latentd.models.checkpoint import Checkpoint
        from latentd.models.sidecars import copy_sidecars

    read = Checkpoint.read(checkpoint)
    tag = f"{read.name}:{read.version}"
    card = read.card
    labels = {"family": card.spec.family, "recipe": card.recipe, "data": card.data.name, "licence": card.licence}
    try:
        if bentoml.Tag.from_str(tag).name != read.name:
            raise click.ClickException(f"names in BentoML's store are lower case; rename {checkpoint.name}")
        metadata = _without_nulls(card.model_dump(mode="json"))
        with bentoml.models.create(tag, labels=labels, metadata=metadata) as model:
            copy = Path(model.path) / f"{read.name}{SUFFIX}"  # without a version, so that the name means it
            shutil.copyfile(checkpoint, copy)
            copy_sidecars(checkpoint, read.version, copy)
    except (BentoMLException, ValueError) as problem:
        raise click.ClickException(f"{tag} cannot be copied to BentoML's model store: {problem}") from problem
    click.echo(tag)


def _without_nulls(value: Any) -> Any:
    """Drop null values, which BentoML's metadata does not allow."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
