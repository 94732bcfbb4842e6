"""Training runs of recipes, for tests."""

from pathlib import Path

import torch

from latentd.models.checkpoint import Checkpoint
from latentd.training.recipes.load import load_recipe
from latentd.training.run.runner import RunConfig, run


def run_config(name: str, folder: Path, *settings: str, data: Path | None = None) -> RunConfig:
    name, recipe = load_recipe(name, settings)
    return RunConfig(name, recipe, 0, torch.device("cpu"), data, folder / f"{name}.safetensors")


def train(config: RunConfig) -> Checkpoint:
    checkpoint = run(config, lambda _: None, lambda *_: None)
    assert checkpoint
    return checkpoint
