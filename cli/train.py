"""`latentd train`."""

import json
import math
import sys
from pathlib import Path

import click
import torch

from cli.progress import Display
from models.checkpoint import SUFFIX, Checkpoint
from models.families import build_discriminator, build_generator
from models.hardware import choose_device
from models.latents import MAX_SEED
from training.data.source import Progress
from training.loop import Losses
from training.recipe import Recipe, load_recipe
from training.run import Run, StoppedEarly, run

_INTERRUPTED = 130


@click.command()
@click.argument("recipe")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Where the data is.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/RECIPE].")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
def train(
    recipe: str,
    data: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    device: str,
    seed: int,
    dry_run: bool,
) -> None:
    """Train RECIPE (a name from `latentd recipes`, or your own .toml file).

    The generator is kept in OUT/RECIPE.safetensors, also when training is interrupted with Ctrl-C. A run that was
    begun in OUT before is gone on with: it ends as it would have without the interruption.
    """
    name, resolved = load_recipe(recipe, settings)
    try:
        chosen_device = choose_device(device)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from problem
    path = (out or Path("runs") / name) / f"{name}{SUFFIX}"
    if dry_run:
        click.echo(json.dumps(_plan(resolved, chosen_device, seed, path), indent=2))
        return
    try:
        checkpoint = _train(Run(name, resolved, seed, chosen_device, data, path))
    except StoppedEarly as stop:
        kept = "nothing was learnt yet, nothing is kept"
        if stop.checkpoint:
            kept = (
                f"what was learnt is kept in {path.with_stem(stop.checkpoint.name)}; the same command goes on from it"
            )
        click.echo(f"\nstopped after {stop.steps} of {resolved.steps} steps; {kept}", err=True)
        sys.exit(_INTERRUPTED)
    figures = "".join(f", {key} {value:g}" for key, value in checkpoint.card.metrics.items())
    click.echo(f"{path}: version {checkpoint.version}, {checkpoint.card.wall_seconds:.0f} s{figures}")


def _train(what: Run) -> Checkpoint:
    with Display() as display:

        def on_data(progress: Progress) -> None:
            display.update(progress.task, progress.done, progress.total, progress.unit, note=str)

        def on_step(step: int, losses: Losses) -> None:
            display.update(
                f"training {what.name}",
                step,
                what.recipe.steps,
                "steps",
                note=lambda: f"D {losses.discriminator:.3f} G {losses.generator:.3f}",
            )

        return run(what, on_data, on_step)


def _plan(recipe: Recipe, device: torch.device, seed: int, path: Path) -> dict[str, object]:
    spec = recipe.spec()
    with torch.device("meta"):
        networks = {
            "generator": build_generator(spec),
            "discriminator": build_discriminator(spec, recipe.discriminator.config),
        }
    return {
        "checkpoint": str(path),
        "device": str(device),
        "seed": seed,
        "parameters": {
            name: sum(math.prod(parameter.shape) for parameter in network.parameters())
            for name, network in networks.items()
        },
        "recipe": recipe.model_dump(mode="json"),
    }
