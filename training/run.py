"""One training run: from a recipe to a checkpoint file."""

import logging
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from latentd.models.card import Card
from latentd.models.checkpoint import Checkpoint
from latentd.models.hardware import describe_device
from latentd.models.spec import GeneratorSpec
from latentd.training.build import BuildContext, build
from latentd.training.checkpoints import CheckpointManager, Progress
from latentd.training.data.source import DataError, DataSource, OnProgress
from latentd.training.directory import OutputError
from latentd.training.interrupt import catch_interrupts
from latentd.training.lock import locked
from latentd.training.loop import Algorithm, Losses, train
from latentd.training.memory import naming_the_remedy
from latentd.training.recipe import require_equal_shares
from latentd.training.recorder import RunRecorder
from latentd.training.settings.base import Recipe
from latentd.training.state import Saved, StateDirectory, StateError, restore
from latentd.training.world import World

logger = logging.getLogger(__name__)


class StoppedEarly(Exception):
    """Training was interrupted; what was learnt until then is in `checkpoint` (None: not a single step)."""

    def __init__(self, checkpoint: Checkpoint | None, steps: int) -> None:
        super().__init__(f"stopped after {steps} steps")
        self.checkpoint = checkpoint
        self.steps = steps


@dataclass(frozen=True)
class RunConfig:
    """What to train, with what, and where the result goes."""

    name: str
    recipe: Recipe
    seed: int
    device: torch.device
    data_path: Path | None
    checkpoint_path: Path
    world: World = field(default_factory=World)


def run(config: RunConfig, on_progress: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint | None:
    """Train `config`, write its checkpoint and return it (None on ranks that write nothing).

    A run folder that holds a state is gone on from. Raises OutputError, DataError, StateError, OutOfMemory and
    TrainingDiverged (the last saved state stands), and when it is interrupted StoppedEarly, once what was learnt is
    written.
    """
    require_equal_shares(config.recipe, config.world.size)
    with ExitStack() as until_the_end:
        config.world.from_first(lambda: until_the_end.enter_context(locked(config.checkpoint_path.parent)))
        return _run(config, on_progress, on_step)


def _run(config: RunConfig, on_progress: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint | None:
    """In a folder that is this run's alone."""
    world, recipe = config.world, config.recipe
    source = world.in_turn(lambda: recipe.data.load(config.data_path, on_progress))
    spec = _spec(recipe, source)
    states = StateDirectory(config.checkpoint_path.parent / "state", _identity(config, source), recipe.save_seconds)
    saved = world.from_first(lambda: _last_state(config, states))
    done = Progress(saved.step, saved.wall_seconds) if saved else Progress(0, 0.0)
    with catch_interrupts() as interrupted, naming_the_remedy(recipe, world):
        algorithm = build(recipe, BuildContext(source, spec, config.seed, config.device, world, done.step))
        if saved:
            restore(algorithm, saved)
            logger.info("resumed at step %d", done.step)
        recorder = _recorder(config, source, algorithm, states, done) if world.writes else None

        def on_step_done(step: int, losses: Losses) -> None:
            on_step(step, losses)
            if recorder:
                recorder.on_step(step, losses)

        try:
            steps = train(algorithm, recipe.steps, on_step_done, interrupted, done.step)
            if steps:
                _require_finite(algorithm, steps)
            checkpoint = recorder.finished(steps, on_progress) if recorder else None
        except BaseException as problem:
            if recorder:
                recorder.failed(problem)
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
            "or leave conditional away"
        )
    return recipe.spec(source.class_names)


def _last_state(config: RunConfig, states: StateDirectory) -> Saved | None:
    saved = states.latest()
    if saved and saved.step > config.recipe.steps:
        raise StateError(
            f"{config.checkpoint_path.parent} is at step {saved.step} already, past steps={config.recipe.steps}; "
            "ask for more steps, or choose another folder with --out"
        )
    return saved


def _identity(config: RunConfig, source: DataSource) -> dict[str, Any]:
    """All that decides what a step does; how many ranks share it, and how often it is saved, does not."""
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
        raise algorithm.diverged(steps, "a weight")


def _recorder(
    config: RunConfig, source: DataSource, algorithm: Algorithm, states: StateDirectory, done: Progress
) -> RunRecorder:
    recipe = config.recipe
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
        versions={name: version(name) for name in ("latentd", "torch", "numpy")}
        | {"python": platform.python_version()},
        metrics={},
        licence=recipe.data.weights_licence,
    )
    checkpoints = CheckpointManager(
        config.checkpoint_path, card, recipe.batches_per_step * recipe.batch_size, done.step
    )
    try:
        return RunRecorder(config.checkpoint_path, card, algorithm, source, states, checkpoints, done)
    except OSError as problem:
        raise OutputError(f"{config.checkpoint_path.parent} cannot be written to ({problem})") from problem


def _hardware(config: RunConfig) -> str:
    ranks = f"{config.world.size} ranks, each on " if config.world.size > 1 else ""
    return f"{ranks}{describe_device(config.device)}, {torch.get_num_threads()} threads"
