"""The training loop: the algorithm box of the GAN papers, with the objective and all that restrains it as arguments.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from models.family import Discriminator, Generator
from training.augment import Augment
from training.data.source import Batch
from training.ema import Ema
from training.objectives import Objective
from training.packing import pack, unpack
from training.penalties import Critic, Penalty
from training.randomness import seed_default, seed_for
from training.schedule import Schedule
from training.world import World

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Losses:
    """What the two players lost in one step (the discriminator in the last of its updates), over all ranks."""

    discriminator: float
    generator: float


class TrainingDiverged(Exception):
    """A loss was not finite; the message names the step."""


@dataclass
class Player(Generic[Network]):
    """A network and what moves it."""

    network: Network
    optimizer: Optimizer
    learner: nn.Module
    """What its own updates call: the network, or what averages its gradients over the ranks."""
    lr: float

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """Of the network; to gather them takes longer than to use them in small ones."""
        return list(self.network.parameters())

    def descend(self, losses: Sequence[Callable[[], Tensor]]) -> Tensor:
        """One update by the mean of `losses`, one after another, so that only one is in memory; returns that mean.

        Gradient accumulation, as in https://arxiv.org/abs/1706.02677, section 2.1.
        """
        self.optimizer.zero_grad(set_to_none=True)
        values = []
        for index, loss_of_part in enumerate(losses, start=1):
            with self._gradients_stay_here(index < len(losses)):
                loss = loss_of_part()
                share = torch.full_like(loss, 1 / len(losses))
                loss.backward(share)  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            values.append(loss.detach())
        self.optimizer.step()
        return torch.stack(values).mean()

    def _gradients_stay_here(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        if wanted and isinstance(self.learner, DistributedDataParallel):
            return self.learner.no_sync()  # the last part's backward pass averages the sum over the ranks
        return contextlib.nullcontext()


@dataclass
class Game:
    """The two players, the rules between them, and where their inputs come from."""

    generator: Player[Generator]
    discriminator: Player[Discriminator]
    objective: Objective
    ema: Ema
    batches: Iterator[Batch]
    """This rank's real samples, on the device, in the layout of the networks."""
    draw_latents: Callable[..., Tensor]
    """What they are for (step and update) → this rank's latents [N, dim], on the device."""
    seed: int
    """Names all that is random."""
    penalties: Sequence[Penalty] = ()
    augment: Augment | None = None
    schedule: Schedule = lambda step: 1.0
    discriminator_steps: int = 1
    microbatches: int = 1
    packing: int = 1
    precision: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """What networks run in, but for penalties, whose second derivatives want full precision."""
    world: World = field(default_factory=World)


def train(
    game: Game,
    steps: int,
    on_step: Callable[[int, Losses], None],
    should_stop: Callable[[], bool] = lambda: False,
    done: int = 0,
) -> int:
    """Play rounds until there are `steps`, of which `done` were played before, or until `should_stop()` on any rank.

    Returns how many there are then. `on_step(step, losses)` hears of each, counted from 1. What is random in a step
    depends on the run's seed and the step alone. Raises TrainingDiverged where a loss stops being finite.
    """
    for step in range(done + 1, steps + 1):
        if game.world.any(should_stop()):
            return step - 1
        seed_default(seed_for(game.seed, "step", step, game.world.rank))
        for player in (game.generator, game.discriminator):
            for group in player.optimizer.param_groups:
                group["lr"] = player.lr * game.schedule(step)
        for turn in range(game.discriminator_steps):
            batch = next(game.batches)
            discriminator_loss = discriminator_step(game, batch, step, turn)
        generator_loss = generator_step(game, batch, step)
        losses = Losses(*game.world.mean(torch.stack([discriminator_loss, generator_loss])).tolist())
        _require_finite(step, losses)
        game.ema.update()
        on_step(step, losses)
    return steps


def discriminator_step(game: Game, batch: Batch, step: int, turn: int = 0) -> Tensor:
    """Teach the discriminator to tell a batch of real samples from as many fakes."""
    update = (step - 1) * game.discriminator_steps + turn
    penalties = [penalty for penalty in game.penalties if penalty.is_due(update)]
    adapts = game.augment is not None and game.augment.adapts
    sureness: list[Tensor] = []

    def loss(part: Batch, latents: Tensor) -> Tensor:
        critic = _critic(game, game.discriminator.learner, part.condition)
        real = pack(part.samples, game.packing)
        with game.precision():
            with torch.no_grad():
                fake = pack(game.generator.network(latents, part.condition), game.packing)
            real_logits, fake_logits = _in_full(critic(real)), _in_full(critic(fake))
            loss = game.objective.discriminator_loss(real_logits, fake_logits)
        if adapts:
            margin = real_logits - fake_logits if game.objective.relative else real_logits
            sureness.append(margin.detach().sign().mean())
        for penalty in penalties:
            loss = loss + penalty(critic, real, _in_full(fake))
        return loss

    mean_loss = game.discriminator.descend(_parts(game, loss, batch, step, f"discriminator {turn}"))
    if game.objective.clip is not None:
        with torch.no_grad():
            for parameter in game.discriminator.parameters:
                parameter.clamp_(-game.objective.clip, game.objective.clip)
    if game.augment is not None and adapts:
        sure = game.world.mean(torch.stack(sureness).mean())
        game.augment.hear(sure, len(batch.samples) * game.world.size)
    return mean_loss


def generator_step(game: Game, batch: Batch, step: int) -> Tensor:
    """Teach the generator to pass for real, with as many samples (of the same classes) as the batch has."""

    def loss(part: Batch, latents: Tensor) -> Tensor:
        critic = _critic(game, game.discriminator.network, part.condition)
        with game.precision():
            fake = game.generator.learner(latents, part.condition)
            logits = _in_full(critic(pack(fake, game.packing)))
            if game.objective.relative:
                logits = logits - _in_full(critic(pack(part.samples, game.packing)))
            return game.objective.generator_loss(logits)

    with _held_still(game.discriminator):
        return game.generator.descend(_parts(game, loss, batch, step, "generator"))


@contextlib.contextmanager
def _held_still(player: Player[Any]) -> Iterator[None]:
    """Within the block, no gradients of its parameters are computed."""
    for parameter in player.parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in player.parameters:
            parameter.requires_grad_(True)


def _parts(
    game: Game, loss: Callable[[Batch, Tensor], Tensor], batch: Batch, step: int, update: str
) -> list[Callable[[], Tensor]]:
    """`loss` of each microbatch, yet to be computed."""
    latents = game.draw_latents(len(batch.samples), step, update)
    pairs = zip(batch.split(game.microbatches), latents.chunk(game.microbatches), strict=True)
    return [partial(loss, part, part_latents) for part, part_latents in pairs]


def _critic(game: Game, discriminator: nn.Module, condition: Tensor | None) -> Critic:
    """Packed samples → logits, by way of the views through which this game shows them."""

    def critic(packed: Tensor) -> Tensor:
        if game.augment is not None:
            packed = pack(game.augment(unpack(_in_full(packed), game.packing)), game.packing)
        logits: Tensor = discriminator(packed, condition)
        return logits

    return critic


def _in_full(values: Tensor) -> Tensor:
    """At least in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _require_finite(step: int, losses: Losses) -> None:
    if not (math.isfinite(losses.discriminator) and math.isfinite(losses.generator)):
        raise diverged(step, "a loss")


def diverged(step: int, what: str) -> TrainingDiverged:
    """That `what` is not finite, and what helps."""
    return TrainingDiverged(
        f"{what} is not finite at step {step}: lower the learning rates, or choose a gentler objective such as hinge"
    )
