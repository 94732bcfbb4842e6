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

from latentd.models.checkpoint import Card, Checkpoint
from latentd.models.hardware import describe_device
from latentd.models.spec import GeneratorSpec
from latentd.training.build import assemble
from latentd.training.checkpoints import CheckpointManager, Progress
from latentd.training.data.source import DataError, DataSource, OnProgress
from latentd.training.directory import OutputError
from latentd.training.interrupt import noted_interrupts
from latentd.training.lock import held
from latentd.training.loop import Algorithm, Losses, train
from latentd.training.memory import naming_the_remedy
from latentd.training.recipe import require_equal_shares
from latentd.training.recorder import RunRecorder
from latentd.training.settings.base import Recipe
from latentd.training.state import Saved, StateError, StateFolder, restore
from latentd.training.world import World

logger = logging.getLogger(__name__)


class StoppedEarly(Exception):
    """Training was interrupted; what was learnt until then is in `checkpoint` (None: not a single step)."""

    def __init__(self, checkpoint: Checkpoint | None, steps: int) -> None:
        super().__init__(f"stopped after {steps} steps")
        self.checkpoint = checkpoint
        self.steps = steps


@dataclass(frozen=True)
class Run:
    """What to train, with what, and where the result goes."""

    name: str
    recipe: Recipe
    seed: int
    device: torch.device
    data_path: Path | None
    checkpoint_path: Path
    world: World = field(default_factory=World)


def run(what: Run, on_progress: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint | None:
    """Train `what`, write its checkpoint and return it (None on ranks that write nothing).

    A run folder that holds a state is gone on from. Raises OutputError, DataError, StateError, OutOfMemory and
    TrainingDiverged (the last saved state stands), and when it is interrupted StoppedEarly, once what was learnt is
    written.
    """
    require_equal_shares(what.recipe, what.world.size)
    with ExitStack() as until_the_end:
        what.world.from_first(lambda: until_the_end.enter_context(held(what.checkpoint_path.parent)))
        return _run(what, on_progress, on_step)


def _run(what: Run, on_progress: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint | None:
    """In a folder that is this run's alone."""
    world, recipe = what.world, what.recipe
    source = world.in_turn(lambda: recipe.data.load(what.data_path, on_progress))
    spec = _spec(recipe, source)
    states = StateFolder(what.checkpoint_path.parent / "state", _identity(what, source), recipe.save_seconds)
    saved = world.from_first(lambda: _last_state(what, states))
    done = Progress(saved.step, saved.wall_seconds) if saved else Progress(0, 0.0)
    with noted_interrupts() as interrupted, naming_the_remedy(recipe, world):
        game = assemble(recipe, source, spec, what.seed, what.device, world, done.step)
        if saved:
            restore(game, saved)
            logger.info("resumed at step %d", done.step)
        desk = _desk(what, source, game, states, done) if world.writes else None

        def on_step_done(step: int, losses: Losses) -> None:
            on_step(step, losses)
            if desk:
                desk.hear(step, losses)

        try:
            steps = train(game, recipe.steps, on_step_done, interrupted, done.step)
            if steps:
                _require_finite(game, steps)
            checkpoint = desk.finished(steps, on_progress) if desk else None
        except BaseException as problem:
            if desk:
                desk.failed(problem)
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


def _last_state(what: Run, states: StateFolder) -> Saved | None:
    saved = states.latest()
    if saved and saved.step > what.recipe.steps:
        raise StateError(
            f"{what.checkpoint_path.parent} is at step {saved.step} already, past steps={what.recipe.steps}; "
            "ask for more steps, or choose another folder with --out"
        )
    return saved


def _identity(what: Run, source: DataSource) -> dict[str, Any]:
    """All that decides what a step does; how many ranks share it, and how often it is saved, does not."""
    return {
        **what.recipe.deciding(),
        "recipe": what.name,
        "seed": what.seed,
        "data_size": source.card.size,
        "data_sha256": source.card.sha256,
        "device": what.device.type,
    }


def _require_finite(game: Algorithm, steps: int) -> None:
    if not all(value.isfinite().all() for value in game.ema.generator.state_dict().values()):
        raise game.diverged(steps, "a weight")


def _desk(what: Run, source: DataSource, game: Algorithm, states: StateFolder, done: Progress) -> RunRecorder:
    recipe = what.recipe
    card = Card(
        spec=game.ema.generator.spec,
        recipe=what.name,
        description=recipe.description,
        settings=recipe.model_dump(mode="json"),
        data=source.card,
        steps=0,
        images_seen=0,
        seed=what.seed,
        created="",
        wall_seconds=0.0,
        hardware=_hardware(what),
        versions={name: version(name) for name in ("latentd", "torch", "numpy")}
        | {"python": platform.python_version()},
        metrics={},
        licence=recipe.data.weights_licence,
    )
    keeper = CheckpointManager(what.checkpoint_path, card, recipe.batches_a_step * recipe.batch_size, done.step)
    try:
        return RunRecorder(what.checkpoint_path, card, game, source, states, keeper, done)
    except OSError as problem:
        raise OutputError(f"{what.checkpoint_path.parent} cannot be written to ({problem})") from problem


def _hardware(what: Run) -> str:
    ranks = f"{what.world.size} ranks, each on " if what.world.size > 1 else ""
    return f"{ranks}{describe_device(what.device)}, {torch.get_num_threads()} threads"
