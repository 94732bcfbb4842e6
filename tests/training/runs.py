"""Training runs of recipes, for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from latentd.models.checkpoint import Checkpoint
from latentd.training.algorithms.base import Losses
from latentd.training.recipes.load import load_recipe
from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.directory import read_metrics
from latentd.training.run.runner import RunConfig, run


class AtStep(Callback):
    """Calls a function after each step. What it raises ends the run."""

    required = True

    def __init__(self, function: Callable[[int, Losses], None]) -> None:
        self._function = function

    def on_step(self, run: ActiveRun) -> None:
        self._function(run.step, run.losses)


def run_config(name: str, folder: Path, *settings: str, data: Path | None = None) -> RunConfig:
    name, recipe = load_recipe(name, settings)
    return RunConfig(name, recipe, 0, torch.device("cpu"), data, folder / f"{name}.safetensors")


def train(config: RunConfig, *callbacks: Callback) -> Checkpoint:
    checkpoint = run(config, callbacks=callbacks)
    assert checkpoint
    return checkpoint


def logged(folder: Path, kind: str) -> dict[int, Any]:
    """Step → values of this kind in metrics.jsonl."""
    return {line["step"]: line[kind] for line in read_metrics(folder) if kind in line}
