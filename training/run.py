"""One training run: from a recipe to a checkpoint file."""

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer, RMSprop

from models.checkpoint import Card, Checkpoint, CheckpointError, write_checkpoint
from models.families import build_discriminator, build_generator
from models.family import Generator
from models.hardware import describe_device
from models.latents import draw_many
from models.outputs.base import Samples
from models.sampling import generate
from models.spec import ClassCondition, GeneratorSpec
from training.data.source import Batch, DataSource, OnProgress
from training.ema import Ema
from training.interrupt import noted_interrupts
from training.loop import Game, Losses, train
from training.objectives import OBJECTIVES
from training.randomness import seed_for
from training.recipe import Recipe
from training.state import StateError, StateFolder, restore

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=Module)


class OutputError(Exception):
    """The run folder cannot be written to."""


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


def run(what: Run, on_data: OnProgress, on_step: Callable[[int, Losses], None]) -> Checkpoint:
    """Train `what`, write its checkpoint and return it.

    A run folder that holds a state is gone on from. Raises OutputError, DataError, StateError, TrainingDiverged (the
    last saved state stands), and after Ctrl-C StoppedEarly, once what was learnt is written.
    """
    _require_writable(what.checkpoint_path.parent)
    source = what.recipe.data.load(what.data_path, on_data)
    states = StateFolder(what.checkpoint_path.parent / "state", _identity(what, source), what.recipe.save_seconds)
    saved = states.latest()
    done = saved.step if saved else 0
    _require_no_way_back(what, done)
    torch.manual_seed(seed_for(what.seed, "networks"))
    game = _set_up(what, source, done)
    started = time.monotonic()
    if saved:
        restore(game, saved)
        started -= saved.wall_seconds
        logger.info("resumed at step %d", done)

    def on_step_done(step: int, losses: Losses) -> None:
        on_step(step, losses)
        states.offer(game, step, time.monotonic() - started)

    with noted_interrupts() as interrupted:
        try:
            steps = train(game, what.recipe.steps, on_step_done, interrupted, done)
        finally:
            states.wait()
        if not steps:
            raise StoppedEarly(None, steps)
        if steps > done:
            states.save_now(game, steps, time.monotonic() - started)
        checkpoint = _write(what, source, game, steps, time.monotonic() - started)
    if steps < what.recipe.steps:
        raise StoppedEarly(checkpoint, steps)
    return checkpoint


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as problem:
        raise OutputError(f"{folder} cannot be written to ({problem}); choose another folder with --out") from problem


def _identity(what: Run, source: DataSource) -> dict[str, Any]:
    """All that decides what a step does; how many steps there are and how often they are saved does not."""
    settings = what.recipe.model_dump(mode="json", exclude={"steps", "save_seconds", "description"})
    return {
        **settings,
        "recipe": what.name,
        "seed": what.seed,
        "data_size": source.card.size,
        "data_sha256": source.card.sha256,
        "device": what.device.type,
    }


def _require_no_way_back(what: Run, done: int) -> None:
    if done > what.recipe.steps:
        raise StateError(
            f"{what.checkpoint_path.parent} is at step {done} already, past steps={what.recipe.steps}; "
            "ask for more steps, or choose another folder with --out"
        )


def _set_up(what: Run, source: DataSource, done: int) -> Game:
    recipe, device = what.recipe, what.device
    spec = recipe.spec()
    generator = _place(build_generator(spec), device)
    discriminator = _place(build_discriminator(spec, recipe.discriminator.config), device)
    generator_optimizer = _optimizer(recipe, generator, recipe.generator_lr)
    discriminator_optimizer = _optimizer(recipe, discriminator, recipe.discriminator_lr)
    return Game(
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        objective=OBJECTIVES[recipe.objective],
        discriminator_steps=recipe.discriminator_steps,
        ema=Ema(generator, recipe.ema_decay),
        batches=_batches(what, source, spec, done * recipe.discriminator_steps),
        draw_latents=lambda count: _draw_latents(spec, count).to(device, non_blocking=True),
        device=device,
        seed=what.seed,
    )


def _place(network: Network, device: torch.device) -> Network:
    """On the device, convolutions in channels_last, which is faster on CUDA's tensor cores and on CPUs."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this overload
    return network


def _optimizer(recipe: Recipe, module: Module, lr: float) -> Optimizer:
    if recipe.optimizer == "rmsprop":
        return RMSprop(module.parameters(), lr=lr, alpha=recipe.betas[1])
    return Adam(module.parameters(), lr=lr, betas=recipe.betas)


def _batches(what: Run, source: DataSource, spec: GeneratorSpec, first: int) -> Iterator[Batch]:
    classes, device = spec.condition, what.device
    for samples, labels in source.draw(what.recipe.batch_size, what.seed, first):
        condition = None
        if isinstance(classes, ClassCondition) and labels is not None:
            condition = classes.one_hot(labels).to(device, non_blocking=True)
        yield Batch(samples.to(device, non_blocking=True), condition)


def _draw_latents(spec: GeneratorSpec, count: int) -> Tensor:
    shape = (count, spec.input.dim)
    return torch.rand(shape) * 2 - 1 if spec.input.distribution == "uniform" else torch.randn(shape)


def _write(what: Run, source: DataSource, game: Game, steps: int, wall_seconds: float) -> Checkpoint:
    recipe = what.recipe
    card = Card(
        spec=game.generator.spec,
        recipe=what.name,
        description=recipe.description,
        settings=recipe.model_dump(mode="json"),
        data=source.card,
        steps=steps,
        images_seen=steps * recipe.discriminator_steps * recipe.batch_size,
        seed=what.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(wall_seconds, 1),
        hardware=f"{describe_device(what.device)}, {torch.get_num_threads()} threads",
        versions={name: version(name) for name in ("latentd", "torch", "numpy")}
        | {"python": platform.python_version()},
        metrics=source.judge(lambda count: _samples_of_first_seeds(game.ema.generator, count)),
        licence=recipe.data.weights_licence,
    )
    try:
        return write_checkpoint(_free_path(what, steps), card, game.ema.generator.state_dict())
    except OSError as problem:
        raise OutputError(f"{what.checkpoint_path} could not be written: {problem}") from problem


def _free_path(what: Run, steps: int) -> Path:
    """Where the checkpoint goes: a run that was stopped early does not take the place of one that went further."""
    path = what.checkpoint_path
    try:
        further = steps < what.recipe.steps and Checkpoint.read(path).card.steps > steps
    except CheckpointError:  # none there, or none that anybody could use
        further = False
    return path.with_stem(f"{path.stem}-step{steps}") if further else path


def _samples_of_first_seeds(generator: Generator, count: int) -> Samples:
    return generate(generator, *draw_many(generator.spec, range(count)))
