"""One training run, from a recipe to a checkpoint file."""

import logging
import platform
from collections.abc import Callable
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
from latentd.training.build import BuildContext, build
from latentd.training.data.source import DataError, DataSource, OnProgress
from latentd.training.loop import Algorithm, Losses, train
from latentd.training.recipes.base import Recipe
from latentd.training.recipes.load import require_divisible_batch
from latentd.training.run.checkpoint_manager import CheckpointManager, Progress
from latentd.training.run.directory import OutputError
from latentd.training.run.interrupt import catch_interrupts
from latentd.training.run.lock import locked
from latentd.training.run.memory import explain_out_of_memory
from latentd.training.run.recorder import RunRecorder
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


def run(config: RunConfig, on_progress: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint | None:
    """Train, write the checkpoint and return it (None on ranks other than the main one).

    Resumes if the run's directory holds a saved state. Raises OutputError, DataError, StateError, RecipeError,
    OutOfMemory and TrainingDiverged; the last saved state stays. Raises StoppedEarly when interrupted, after the
    checkpoint is written.
    """
    require_divisible_batch(config.recipe, config.world.size)
    with ExitStack() as stack:
        config.world.on_main(lambda: stack.enter_context(locked(config.checkpoint_path.parent)))
        return _run_locked(config, on_progress, on_step)


def _run_locked(
    config: RunConfig, on_progress: OnProgress, on_step: Callable[[int, Losses], None]
) -> Checkpoint | None:
    world, recipe = config.world, config.recipe
    source = world.local_main_first(lambda: recipe.data.load(config.data_path, on_progress))
    spec = _spec(recipe, source)
    states = StateDirectory(config.checkpoint_path.parent / "state", _identity(config, source), recipe.save_seconds)
    saved = world.on_main(lambda: _latest_state(config, states))
    done = Progress(saved.step, saved.wall_seconds) if saved else Progress(0, 0.0)
    with catch_interrupts() as interrupted, explain_out_of_memory(recipe, world):
        algorithm = build(recipe, BuildContext(source, spec, config.seed, config.device, world, done.step))
        if saved:
            restore(algorithm, saved)
            logger.info("resumed at step %d", done.step)
        recorder = _make_recorder(config, source, algorithm, states, done) if world.is_main else None

        def after_step(step: int, losses: Losses) -> None:
            on_step(step, losses)
            if recorder:
                recorder.on_step(step, losses)

        try:
            steps = train(algorithm, recipe.steps, after_step, interrupted, done.step)
            if steps:
                _require_finite(algorithm, steps)
            checkpoint = recorder.finish(steps, on_progress) if recorder else None
        except BaseException as problem:
            if recorder:
                recorder.fail(problem)
            raise
        finally:
            states.wait()
    if steps < recipe.steps:
        raise StoppedEarly(checkpoint, steps)
    return checkpoint


def _spec(recipe: Recipe, source: DataSource) -> GeneratorSpec:
    if recipe.generator.conditional and not source.class_names:
        raise DataError(
            f"{source.card.name} has no classes for generator.conditional: {source.why_no_classes}. "
            "Put the images of each class into a folder of its own (in shards: a .cls file or a label for each), "
            "or leave conditional out"
        )
    return recipe.spec(source.class_names)


def _latest_state(config: RunConfig, states: StateDirectory) -> SavedState | None:
    saved = states.latest()
    if saved and saved.step > config.recipe.steps:
        raise StateError(
            f"{config.checkpoint_path.parent} is at step {saved.step} already, past steps={config.recipe.steps}; "
            "ask for more steps, or choose another folder with --out"
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
    if not all(value.isfinite().all() for value in algorithm.ema.generator.state_dict().values()):
        raise algorithm.divergence_error(steps, "a weight")


def _make_recorder(
    config: RunConfig, source: DataSource, algorithm: Algorithm, states: StateDirectory, done: Progress
) -> RunRecorder:
    recipe, path = config.recipe, config.checkpoint_path
    card = Card(
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
    checkpoints = CheckpointManager(path, card, recipe.batches_per_step * recipe.batch_size, done.step)
    try:
        return RunRecorder(algorithm, source, states, checkpoints, recipe.steps, done)
    except OSError as problem:
        raise OutputError(f"{path.parent} cannot be written to ({problem})") from problem


def _hardware(config: RunConfig) -> str:
    ranks = f"{config.world.size} ranks, each on " if config.world.size > 1 else ""
    return f"{ranks}{describe_device(config.device)}, {torch.get_num_threads()} threads"
