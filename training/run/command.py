"""`latentd train`, which torchrun starts as `python -m latentd.training train`."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentd.models.file_names import SUFFIX
from latentd.models.seeds import MAX_SEED
from latentd.training.evaluation.verdict import judge
from latentd.training.program import INTERRUPTED, RECIPE
from latentd.training.run.interrupt import exit_on_ctrl_c
from latentd.training.run.trackers import TRACKERS, make_trackers

if TYPE_CHECKING:
    import torch

    from latentd.training.recipes.base import Recipe


@click.command()
@click.argument("recipe", type=RECIPE)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Where the data is.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/RECIPE].")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option(
    "--log",
    "services",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="Log the run to this service as well; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
def train(
    recipe: str,
    data: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    device: str,
    seed: int,
    services: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train RECIPE (a name from `latentd recipes`, or your own .toml file).

    The generator is saved in OUT/RECIPE.safetensors, also when training is interrupted with Ctrl-C. If OUT holds a run
    that was interrupted, it resumes, and ends with the same weights as without the interruption.
    """
    with exit_on_ctrl_c():
        from latentd.models.hardware import choose_device
        from latentd.training.recipes.load import load_recipe
        from latentd.training.run.progress import Display
        from latentd.training.run.runner import RunConfig, StoppedEarly, run
        from latentd.training.world import join_world

    name, resolved = load_recipe(recipe, settings)
    try:
        chosen_device = choose_device(device)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from problem
    path = (out or Path("runs") / name) / f"{name}{SUFFIX}"
    if dry_run:
        click.echo(json.dumps(_dry_run(resolved, chosen_device, seed, path), indent=2))
        return
    trackers = make_trackers(services)
    try:
        with join_world(chosen_device) as (world, own_device):
            config = RunConfig(name, resolved, seed, own_device, data, path, world)
            with Display(hidden=not world.is_main) as display:
                checkpoint = run(config, display.update, trackers)
    except StoppedEarly as stop:
        result = "nothing was learned yet, so nothing is saved"
        if stop.checkpoint:
            result = (
                f"the generator is saved in {path.with_stem(stop.checkpoint.name)}; the same command resumes the run"
            )
        if world.is_main:
            click.echo(f"\nstopped after {stop.steps} of {resolved.steps} steps; {result}", err=True)
        sys.exit(INTERRUPTED)
    if checkpoint:
        metrics = "".join(f", {key} {value:g}" for key, value in checkpoint.card.metrics.items())
        click.echo(f"{path}: version {checkpoint.version}, {checkpoint.card.wall_seconds:.0f} s{metrics}")
        if verdict := judge(checkpoint.card.metrics, checkpoint.card.floors):
            click.echo(f"{verdict.kind}: {verdict.words}")


def _dry_run(recipe: "Recipe", device: "torch.device", seed: int, path: Path) -> dict[str, object]:
    import torch

    spec = recipe.spec()
    with torch.device("meta"):
        networks = {name: build(spec) for name, build in recipe.builders.items()}
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
