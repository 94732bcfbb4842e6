"""The training loop: the algorithm box of the GAN papers, with the objective as an argument.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.family import Discriminator, Generator
from training.data.source import Batch
from training.ema import Ema
from training.objectives import Objective
from training.randomness import seed_for


@dataclass(frozen=True)
class Losses:
    """What the two players lost in one step (the discriminator in the last of its updates)."""

    discriminator: float
    generator: float


class TrainingDiverged(Exception):
    """A loss was not finite; the message names the step."""


@dataclass
class Game:
    """The two players, all that moves them, and where their inputs come from."""

    generator: Generator
    discriminator: Discriminator
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    objective: Objective
    discriminator_steps: int
    ema: Ema
    batches: Iterator[Batch]
    """Real samples, on the device, in the layout of the networks."""
    draw_latents: Callable[[int], Tensor]
    """How many → latents [N, dim], on the device."""
    device: torch.device
    seed: int
    """Names all that is random."""


def train(
    game: Game,
    steps: int,
    on_step: Callable[[int, Losses], None],
    should_stop: Callable[[], bool] = lambda: False,
    done: int = 0,
) -> int:
    """Play rounds until there are `steps`, of which `done` were played before, or until `should_stop()`.

    Returns how many there are then. `on_step(step, losses)` hears of each, counted from 1. What is random in a step
    depends on the run's seed and the step alone. Raises TrainingDiverged where a loss stops being finite.
    """
    for step in range(done + 1, steps + 1):
        if should_stop():
            return step - 1
        torch.manual_seed(seed_for(game.seed, "step", step))
        for _ in range(game.discriminator_steps):
            batch = next(game.batches)
            discriminator_loss = discriminator_step(game, batch)
        generator_loss = generator_step(game, batch)
        losses = Losses(discriminator_loss.item(), generator_loss.item())
        _require_finite(step, losses)
        game.ema.update(game.generator)
        on_step(step, losses)
    return steps


def discriminator_step(game: Game, batch: Batch) -> Tensor:
    """Teach the discriminator to tell a batch of real samples from as many fakes."""
    real, condition = batch.samples, batch.condition
    critic = partial(game.discriminator, condition=condition)
    with _precision(game.device):
        with torch.no_grad():
            fake = game.generator(game.draw_latents(len(real)), condition)
        loss = game.objective.discriminator_loss(critic(real).float(), critic(fake).float())
        if game.objective.penalty is not None:
            loss = loss + game.objective.penalty(critic, real, fake)
    _descend(game.discriminator_optimizer, loss)
    if game.objective.clip is not None:
        with torch.no_grad():
            for parameter in game.discriminator.parameters():
                parameter.clamp_(-game.objective.clip, game.objective.clip)
    return loss.detach()


def generator_step(game: Game, batch: Batch) -> Tensor:
    """Teach the generator to pass for real, with as many samples (of the same classes) as the batch has."""
    game.discriminator.requires_grad_(False)
    with _precision(game.device):
        fake = game.generator(game.draw_latents(len(batch.samples)), batch.condition)
        loss = game.objective.generator_loss(game.discriminator(fake, batch.condition).float())
    _descend(game.generator_optimizer, loss)
    game.discriminator.requires_grad_(True)
    return loss.detach()


def _descend(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
    optimizer.step()


def _precision(device: torch.device) -> torch.autocast:
    """bfloat16 where CUDA's tensor cores make it pay, plain float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _require_finite(step: int, losses: Losses) -> None:
    if not (math.isfinite(losses.discriminator) and math.isfinite(losses.generator)):
        raise TrainingDiverged(
            f"a loss is not finite at step {step} ({losses}): "
            "lower the learning rates, or choose a gentler objective such as hinge"
        )
