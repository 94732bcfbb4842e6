"""What an algorithm is: what is learned in a step, from what, and what a state file holds of it."""

import contextlib
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
from latentd.training.evaluation.evaluate import generate_set
from latentd.training.evaluation.evaluator import EvaluationSet
from latentd.training.randomness import generator_for
from latentd.training.schedule import Schedule
from latentd.training.world import World

Network = TypeVar("Network", bound=nn.Module)

Losses = Mapping[str, float]
"""The losses of one step, averaged over all ranks. The algorithm chooses the names."""

Precision = Callable[[], contextlib.AbstractContextManager[None]]
"""Makes the context in which networks run: torch.autocast, or a context that does nothing."""


class TrainingDiverged(LatentdError):
    """A loss or a weight is not finite. The message names the step and says what to try."""


@dataclass
class Trainable(Generic[Network]):
    """A network with its optimizer."""

    network: Network
    optimizer: Optimizer
    wrapped: nn.Module
    """The network in DistributedDataParallel if there are several ranks, else the network itself.

    Call this one in the network's own updates, so that gradients are averaged over the ranks.
    """
    lr: float
    """The learning rate before the schedule."""

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """The network's parameters. The list is kept, because collecting it is slow for small networks."""
        return list(self.network.parameters())

    def update(self, losses: Sequence[Callable[[], Tensor]]) -> Tensor:
        """Do one optimizer step on the mean of `losses`, and return this mean (a scalar).

        Losses are computed one after another, so that only one graph is in memory (gradient accumulation, as in
        https://arxiv.org/abs/1706.02677, section 2.1).
        """
        self.optimizer.zero_grad(set_to_none=True)
        values = []
        for index, microbatch_loss in enumerate(losses, start=1):
            with self._no_sync(index < len(losses)):
                loss = microbatch_loss()
                weight = torch.full_like(loss, 1 / len(losses))
                loss.backward(weight)  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
            values.append(loss.detach())
        self.optimizer.step()
        return torch.stack(values).mean()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Compute no gradients of the network's parameters within the block."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def _no_sync(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        if wanted and isinstance(self.wrapped, DistributedDataParallel):
            return self.wrapped.no_sync()  # the last microbatch's backward pass averages the sum over the ranks
        return contextlib.nullcontext()


@dataclass(kw_only=True)
class Algorithm(ABC):
    """What is learned in a step, and from what. Also names all that a state file must hold."""

    ema: Ema
    """The average of the generator that the run produces. It is measured, chosen by its metrics, and served."""
    other_emas: Mapping[str, Ema] = field(default_factory=dict)
    """Averages of other generators that the run produces. Each is written beside the first, as NAME-KEY."""
    batches: Iterator[Batch]
    """This rank's real samples, on the device."""
    seed: int
    """The run's seed, from which all random numbers of the run are derived."""
    schedule: Schedule = lambda step: 1.0
    """Step → a factor on all learning rates."""
    microbatches: int = 1
    world: World = field(default_factory=World)

    collapse_hints: Mapping[str, str] = field(default_factory=dict)
    """Kind of collapse → what to try, beyond the settings of this run. An alarm of another kind gives no advice."""

    divergence_hint: ClassVar[str]
    """What to try when training diverges."""

    @abstractmethod
    def step(self, step: int) -> dict[str, Tensor]:
        """Do step number `step`, counted from 1. Return the losses on this rank's samples: name → scalar."""

    @property
    @abstractmethod
    def trainables(self) -> dict[str, Trainable[Any]]:
        """All networks with an optimizer, by their names in state files."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules that a step changes, by their names in state files."""
        networks = {name: trainable.network for name, trainable in self.trainables.items()}
        averages = {f"average_{name}": ema.generator for name, ema in self.other_emas.items()}
        return networks | {"average": self.ema.generator} | averages

    @property
    def emas(self) -> tuple[Ema, ...]:
        """All averages, the run's own first."""
        return (self.ema, *self.other_emas.values())

    # what a run is watched by

    def logits(self, batch: Batch) -> Tensor | None:
        """Return the discriminator's logits for `batch` in eval mode; None if there is no discriminator."""
        return None

    def probe_inputs(self, count: int, seed: int) -> Tensor:
        """Return inputs [count, *shape] of the generator, on its device, the same ones after a run is resumed.

        Their samples are compared during the run.
        """
        spec = self.ema.generator.spec
        device = next(self.ema.generator.parameters()).device
        return spec.input.draw_tensor(count, generator_for(seed, "latents")).to(device)

    def evaluation_set(self, seeds: range) -> EvaluationSet:
        """Return samples of the average for snapshots and metrics. They are made when read."""
        return generate_set(self.ema.generator, seeds)

    def divergence_error(self, step: int, what: str) -> TrainingDiverged:
        """Return the error that says that `what` is not finite at `step`, and what to try."""
        return TrainingDiverged(f"{what} is not finite at step {step}: {self.divergence_hint}")


def microbatch_losses(
    loss: Callable[[Batch, Tensor], Tensor], batch: Batch, latents: Tensor, count: int
) -> list[Callable[[], Tensor]]:
    """Return `count` functions without arguments. Each computes `loss` of one microbatch and its latents."""
    pairs = zip(batch.split(count), latents.chunk(count), strict=True)
    return [partial(loss, part, part_latents) for part, part_latents in pairs]


def at_least_float32(values: Tensor) -> Tensor:
    """Convert bfloat16 and float16 to float32; leave wider types as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
