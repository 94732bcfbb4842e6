"""The training loop: rounds of an algorithm, whatever the algorithm is; a algorithm says what is learnt, and from what.

The algorithms: training/adversarial.py, training/reconstruction.py, training/moments.py.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from latentd.models.errors import LatentdError
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.randomness import seed_default, seed_for
from latentd.training.schedule import Schedule
from latentd.training.world import World

Network = TypeVar("Network", bound=nn.Module)

Losses = Mapping[str, float]
"""What was lost in one step, over all ranks, by the names that the algorithm gives."""

Precision = Callable[[], contextlib.AbstractContextManager[None]]
"""What networks run in while they learn: autocast, or nothing."""


class TrainingDiverged(LatentdError):
    """A loss was not finite; the message names the step."""


@dataclass
class Trainable(Generic[Network]):
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


@dataclass(kw_only=True)
class Algorithm(ABC):
    """What is played in rounds: what learns, from what, and what a state file must hold of it."""

    ema: Ema
    """Of the generator that comes of it."""
    batches: Iterator[Batch]
    """This rank's real samples, on the device, in the layout of the networks."""
    seed: int
    """Names all that is random."""
    schedule: Schedule = lambda step: 1.0
    microbatches: int = 1
    world: World = field(default_factory=World)

    divergence_hint: ClassVar[str]
    """What helps where it diverges."""

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """One round, counted from 1; what was lost in it over this rank's samples: name → scalar."""

    def logits(self, batch: Batch) -> Tensor | None:
        """What the algorithm's discriminator makes of samples, without learning from them; None where it has none."""
        return None

    @property
    @abstractmethod
    def trainables(self) -> dict[str, Trainable[Any]]:
        """All that an optimizer moves, by the names in state files."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All that a step changes, but for the optimizers, by the names in state files."""
        return {name: trainable.network for name, trainable in self.trainables.items()} | {
            "average": self.ema.generator
        }

    def diverged(self, step: int, what: str) -> TrainingDiverged:
        """That `what` is not finite, and what helps."""
        return TrainingDiverged(f"{what} is not finite at step {step}: {self.divergence_hint}")


def train(
    algorithm: Algorithm,
    steps: int,
    on_step: Callable[[int, Losses], None],
    should_stop: Callable[[], bool] = lambda: False,
    done: int = 0,
) -> int:
    """Play rounds until there are `steps`, of which `done` were played before, or until `should_stop()` on any rank.

    Returns how many there are then. `on_step(step, losses)` hears of each, counted from 1. What is random in a step
    depends on the run's seed and the step alone. Raises TrainingDiverged where a loss stops being finite.
    """
    trainables = algorithm.trainables.values()
    for step in range(done + 1, steps + 1):
        if algorithm.world.any(should_stop()):
            return step - 1
        seed_default(seed_for(algorithm.seed, "step", step, algorithm.world.rank))
        for trainable in trainables:
            for group in trainable.optimizer.param_groups:
                group["lr"] = trainable.lr * algorithm.schedule(step)
        lost = algorithm.step(step)
        losses = dict(zip(lost, algorithm.world.mean(torch.stack(list(lost.values()))).tolist(), strict=True))
        if not all(map(math.isfinite, losses.values())):
            raise algorithm.diverged(step, "a loss")
        algorithm.ema.update()
        on_step(step, losses)
    return steps


def in_parts(
    loss: Callable[[Batch, Tensor], Tensor], batch: Batch, latents: Tensor, count: int
) -> list[Callable[[], Tensor]]:
    """`loss` of each of `count` microbatches and its latents, yet to be computed."""
    pairs = zip(batch.split(count), latents.chunk(count), strict=True)
    return [partial(loss, part, part_latents) for part, part_latents in pairs]


def in_full(values: Tensor) -> Tensor:
    """At least in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
