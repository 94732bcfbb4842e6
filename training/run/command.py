"""`latentd train`, which torchrun starts as `python -m latentd.training train`."""

import json
import sys
from pathlib import Path

import click

from latentd.models.file_names import SUFFIX
from latentd.models.seeds import MAX_SEED
from latentd.training.evaluation.verdict import judge
from latentd.training.program import INTERRUPTED, RECIPE
from latentd.training.run.interrupt import exit_on_ctrl_c
from latentd.training.run.trackers import TRACKERS, make_trackers


@click.command()
@click.argument("recipe", type=RECIPE)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Where the data is.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/RECIPE].")
@click.option("--name", help="The run's name: its folder is runs/NAME, and it is served as runs/NAME.")
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
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and about how long it takes, and stop.")
def train(
    recipe: str,
    data: Path | None,
    out: Path | None,
    name: str | None,
    settings: tuple[str, ...],
    device: str,
    seed: int,
    services: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train RECIPE (a name from `latentd recipes`, or your own .toml file).

    The generator is saved in OUT/RECIPE.safetensors, also when training is interrupted with Ctrl-C. If OUT holds a run
    that was interrupted, it resumes, and ends with the same weights as without the interruption. To train a recipe
    several times, give each run its own name.
    """
    with exit_on_ctrl_c():
        from latentd.models.hardware import choose_device
        from latentd.training.recipes.load import load_recipe
        from latentd.training.run.directory import choose_folder
        from latentd.training.run.dry_run import plan
        from latentd.training.run.next_steps import next_steps
        from latentd.training.run.progress import Display
        from latentd.training.run.runner import RunConfig, StoppedEarly, run
        from latentd.training.world import join_world

    recipe_name, resolved = load_recipe(recipe, settings)
    try:
        chosen_device = choose_device(device)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from problem
    path = choose_folder(recipe_name, out, name) / f"{recipe_name}{SUFFIX}"
    if dry_run:
        click.echo(json.dumps(plan(resolved, chosen_device, seed, path), indent=2))
        return
    trackers = make_trackers(services)
    try:
        with join_world(chosen_device) as (world, own_device):
            config = RunConfig(recipe_name, resolved, seed, own_device, data, path, world)
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
            if stop.checkpoint:
                click.echo(next_steps(path, stop.checkpoint.card, data), err=True)
        sys.exit(INTERRUPTED)
    if checkpoint:
        metrics = "".join(f", {key} {value:g}" for key, value in checkpoint.card.metrics.items())
        click.echo(f"{path}: version {checkpoint.version}, {checkpoint.card.wall_seconds:.0f} s{metrics}")
        if verdict := judge(checkpoint.card.metrics, checkpoint.card.floors):
            click.echo(f"{verdict.kind}: {verdict.words}")
        click.echo(next_steps(path, checkpoint.card, data), err=True)
