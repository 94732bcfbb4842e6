"""One training run, from a recipe to a checkpoint file."""

import logging
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import describe_device
from latentd.models.packages import package_version
from latentd.models.spec import GeneratorSpec
from latentd.training.algorithms.base import Algorithm
from latentd.training.build import BuildContext, build
from latentd.training.data.source import DataError, DataSource, OnProgress
from latentd.training.loop import train
from latentd.training.recipes.base import Recipe
from latentd.training.recipes.load import require_divisible_batch
from latentd.training.run.callback import ActiveRun, Callback
from latentd.training.run.callback_handler import CallbackHandler
from latentd.training.run.callback_list import make_callbacks
from latentd.training.run.interrupt import catch_interrupts
from latentd.training.run.lock import locked
from latentd.training.run.memory import explain_out_of_memory
from latentd.training.run.state import SavedState, StateDirectory, StateError, restore
from latentd.training.world import World

logger = logging.getLogger(__name__)


class StoppedEarly(Exception):
    """Training was interrupted. `checkpoint` has what was learned so far; None if no step was finished."""

    def __init__(self, checkpoint: Checkpoint | None, steps: int) -> None:
        super().__init__(f"stopped after {steps} steps")
        self.checkpoint = checkpoint
        self.steps = steps


@dataclass(frozen=True)
class RunConfig:
    """What to train, on what, and where the result goes."""

    name: str
    """The recipe's name."""
    recipe: Recipe
    seed: int
    device: torch.device
    data_path: Path | None
    """Where the data is; None for data that is drawn, or found by its name."""
    checkpoint_path: Path
    """The file to write. Its directory is the run's."""
    world: World = field(default_factory=World)


def run(
    config: RunConfig, on_progress: OnProgress = lambda _: None, callbacks: Sequence[Callback] = ()
) -> Checkpoint | None:
    """Train, write the checkpoint and return it (None on ranks other than the main one).

    `callbacks`: those that the run has besides its own (training/run/callback_list.py); the main rank calls them.

    Resumes if the run's directory holds a saved state. Raises OutputError, DataError, StateError, RecipeError,
    OutOfMemory and TrainingDiverged; the last saved state stays. Raises StoppedEarly when interrupted, after the
    checkpoint is written.
    """
    require_divisible_batch(config.recipe, config.world.size)
    with ExitStack() as stack:
        config.world.on_main(lambda: stack.enter_context(locked(config.checkpoint_path.parent)))
        return _run_locked(config, on_progress, callbacks)


def _run_locked(config: RunConfig, on_progress: OnProgress, callbacks: Sequence[Callback]) -> Checkpoint | None:
    world, recipe = config.world, config.recipe
    source = world.local_main_first(lambda: recipe.data.load(config.data_path, on_progress))
    spec = _spec(recipe, source)
    states = StateDirectory(config.checkpoint_path.parent / "state", _identity(config, source))
    saved = world.on_main(lambda: _latest_state(config, states))
    done = saved.step if saved else 0
    with catch_interrupts() as interrupted, explain_out_of_memory(recipe, world):
        algorithm = build(recipe, BuildContext(source, spec, config.seed, config.device, world, done))
        if saved:
            restore(algorithm, saved)
            logger.info("resumed at step %d", done)
        elif world.is_main and (advice := recipe.advice(source.card)):
            logger.info("%s", advice)
        active = ActiveRun(
            path=config.checkpoint_path,
            card=_card(config, source, algorithm),
            algorithm=algorithm,
            source=source,
            steps=recipe.steps,
            steps_done=done,
            step=done,
            seconds=saved.wall_seconds if saved else 0.0,
        )
        all_callbacks = make_callbacks(recipe, active, states, on_progress, callbacks) if world.is_main else []
        handler = CallbackHandler(all_callbacks, active)
        try:
            handler.start()
            steps = train(algorithm, recipe.steps, handler.step, interrupted, done)
            if steps:
                _require_finite(algorithm, steps)
            handler.end(steps)
        except BaseException as problem:
            handler.fail(problem)
            raise
    if steps < recipe.steps:
        raise StoppedEarly(active.checkpoint, steps)
    return active.checkpoint


def _spec(recipe: Recipe, source: DataSource) -> GeneratorSpec:
    if recipe.generator.conditional and not source.condition.size:
        raise DataError(
            f"{source.card.name} has no classes for generator.conditional: {source.why_no_classes}. "
            "Put the images of each class into a folder of its own (in shards: a .cls file or a label for each), "
            "or leave conditional out"
        )
    return recipe.spec(source.condition)


def _latest_state(config: RunConfig, states: StateDirectory) -> SavedState | None:
    saved = states.latest()
    if saved and saved.step > config.recipe.steps:
        raise StateError(
            f"{config.checkpoint_path.parent} is at step {saved.step} already, past steps={config.recipe.steps}; "
            "ask for more steps, or choose another folder (`out` or `--out`)"
        )
    return saved


def _identity(config: RunConfig, source: DataSource) -> dict[str, Any]:
    """Return all settings that decide what a step does. The number of ranks, for one, does not."""
    return {
        **config.recipe.resume_key(),
        "recipe": config.name,
        "seed": config.seed,
        "data_size": source.card.size,
        "data_sha256": source.card.sha256,
        "device": config.device.type,
    }


def _require_finite(algorithm: Algorithm, steps: int) -> None:
    for ema in algorithm.emas:
        if not all(value.isfinite().all() for value in ema.generator.state_dict().values()):
            raise algorithm.divergence_error(steps, "a weight")


def _card(config: RunConfig, source: DataSource, algorithm: Algorithm) -> Card:
    """Return the facts that all checkpoints of the run share."""
    recipe = config.recipe
    return Card(
        spec=algorithm.ema.generator.spec,
        recipe=config.name,
        description=recipe.description,
        settings=recipe.model_dump(mode="json"),
        data=source.card,
        steps=0,
        images_seen=0,
        seed=config.seed,
        created="",
        wall_seconds=0.0,
        hardware=_hardware(config),
        versions={name: package_version(name) for name in ("latentd", "torch", "numpy")}
        | {"python": platform.python_version()},
        metrics={},
        licence=recipe.data.weights_licence,
    )


def _hardware(config: RunConfig) -> str:
    ranks = f"{config.world.size} ranks, each on " if config.world.size > 1 else ""
    return f"{ranks}{describe_device(config.device)}, {torch.get_num_threads()} threads"
