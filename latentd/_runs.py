"""Train and evaluate from Python."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from latentd._arguments import integer, one_of
from latentd._arguments import seed as check_seed
from latentd._model import Model, load
from latentd.models.checkpoint import Checkpoint
from latentd.models.file_names import SUFFIX
from latentd.models.find import find_checkpoint
from latentd.models.hardware import choose_device
from latentd.training.evaluation.evaluate import MetricResult, evaluate_generator
from latentd.training.evaluation.held_out import Features, build_evaluator, data_settings
from latentd.training.recipes.files import flatten
from latentd.training.recipes.load import load_recipe
from latentd.training.run.callback import Callback
from latentd.training.run.directory import choose_folder
from latentd.training.run.runner import RunConfig, StoppedEarly
from latentd.training.run.runner import run as run_training
from latentd.training.run.trackers import TRACKERS, make_trackers


@dataclass(frozen=True)
class Run:
    """A training run that has ended."""

    folder: Path
    """Where its files are: checkpoint, report.html, metrics.jsonl, samples, state."""
    checkpoint: Path
    """The checkpoint file of the generator."""
    steps: int
    """Training steps of the generator."""
    metrics: Mapping[str, float]
    """Metrics on held-out data; empty if nothing was measured."""
    is_complete: bool
    """False: it was interrupted; the same call continues it."""

    def load(self, device: str = "auto") -> Model:
        """Load the run's generator."""
        return load(self.checkpoint, device)


def train(
    recipe: str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    seed: int = 0,
    device: str = "auto",
    log: str | Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train a recipe and return its run.

    `recipe`: a name that `latentd recipes` lists, or the path of a .toml file.
    `data`: a folder, a zip file or shards, for recipes that read your data.
    `out`: the run's folder; default: runs/RECIPE. A run that was begun there is continued.
    `name`: the run's name, instead of `out`: the folder is runs/NAME, and the service serves the run under this name.
    `log`: services that the run is logged to as well: mlflow, wandb (each needs its extra).
    `callbacks`: instances of subclasses of `latentd.Callback`, which are called while the run trains.
    `settings`: the recipe's settings, tables as mappings: `steps=2000, generator={"latent": {"dim": 64}}`.

    RecipeError names a setting that is wrong; DataError, OutputError, StateError and TrainingDiverged say what went
    wrong later. After Ctrl-C the run is returned with what was learned; KeyboardInterrupt if that is nothing.
    """
    changes = [f"{key}={json.dumps(value)}" for key, value in flatten(settings).items()]
    recipe_name, resolved = load_recipe(recipe, changes)
    folder = choose_folder(recipe_name, None if out is None else Path(out), name)
    path = folder / f"{recipe_name}{SUFFIX}"
    data_path = None if data is None else Path(data)
    job = RunConfig(recipe_name, resolved, check_seed(seed), choose_device(device), data_path, path)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks are instances of subclasses of latentd.Callback, not {callback!r}")
    services = [log] if isinstance(log, str) else list(log)
    for service in services:
        one_of("log", service, TRACKERS)
    try:
        checkpoint = run_training(job, callbacks=[*callbacks, *make_trackers(services)])
    except StoppedEarly as stop:
        if stop.checkpoint is None:
            raise KeyboardInterrupt from stop
        kept = stop.checkpoint
        return Run(folder, path.with_stem(kept.name), kept.card.steps, dict(kept.card.metrics), is_complete=False)
    assert checkpoint is not None  # noqa: S101  # only ranks of several devices write none
    return Run(folder, path, checkpoint.card.steps, dict(checkpoint.card.metrics), is_complete=True)


def evaluate(
    path_or_name: str | Path, data: str | Path | None = None, *, rounds: int = 3, features: Features = "embedded"
) -> dict[str, MetricResult]:
    """Measure how well a generator covers its data: metrics by name, with the same metrics of real samples.

    `path_or_name`: as `latentd.load` takes it. `data`: where the data is, if the recipe does not fetch it.
    `rounds`: sets of samples to measure. `features`: embedded, or inception (the published protocol; needs an extra).
    Raises DataError if the data is not found, or the card does not name it.
    """
    one_of("features", features, get_args(Features))
    if integer("rounds", rounds) < 1:
        raise ValueError(f"rounds is 1 or more, not {rounds}")
    checkpoint = Checkpoint.read(find_checkpoint(path_or_name))
    evaluator = build_evaluator(data_settings(checkpoint), None if data is None else Path(data), features)
    return evaluate_generator(checkpoint.build(), evaluator, rounds)
