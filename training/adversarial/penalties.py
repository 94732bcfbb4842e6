"""Penalties that keep a discriminator or a generator smooth."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from latentd.models.family import Generator, TwoStageGenerator
from latentd.training.adversarial.augment import flip_and_translate
from latentd.training.recipes.base import Table

Critic = Callable[[Tensor], Tensor]
"""Samples [N, ...] → logits [N]. The condition is built in."""

PenaltyFunction = Callable[[Critic, Tensor, Tensor], Tensor]
"""`penalty(critic, real, fake)` → a scalar, before its weight."""


class PenaltyTable(Table):
    """A table `[penalties.NAME]` or `[generator_penalties.NAME]`."""

    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    every: PositiveInt = 1
    """The penalty is computed in every `every`-th update, and then weighs `every` times more."""


@dataclass(frozen=True)
class Penalty:
    """A penalty on the discriminator with its weight.

    It is computed in every `every`-th update, where it weighs `every` times more. Lazy regularization: Karras et al.
    2020, https://arxiv.org/abs/1912.04958, appendix B. (The penalty is part of the same update as the loss, so the
    optimizer's settings need no correction.)
    """

    function: PenaltyFunction
    weight: float
    every: int = 1

    def is_due(self, update: int) -> bool:
        """Whether to compute the penalty in this update, counted from 0."""
        return update % self.every == 0

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        return self.weight * self.every * self.function(critic, real, fake)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """E[(‖∇D(x̂)‖₂ - 1)²] at random points x̂ between real and fake (Gulrajani et al. 2017, eq. 3)."""
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = epsilon * real + (1 - epsilon) * fake
    distance = _gradients(critic, between).norm(dim=1) - 1  # [N]
    penalty: Tensor = distance.square().mean()
    return penalty


def r1(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """½ E‖∇D(x)‖² at real samples (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, eq. 9); the weight is γ."""
    return _gradients(critic, real).square().sum(dim=1).mean() / 2


def r2(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """½ E‖∇D(G(z))‖² at fakes (Mescheder et al. 2018, eq. 10); the weight is γ."""
    return _gradients(critic, fake).square().sum(dim=1).mean() / 2


def consistency(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """E[(D(x) - D(T(x)))²] for flipped and shifted images (Zhang et al. 2019, https://arxiv.org/abs/1910.12027)."""
    return (critic(real) - critic(flip_and_translate(real))).square().mean()


def _gradients(critic: Critic, samples: Tensor) -> Tensor:
    """Return ∇D at each sample: [N, values]."""
    at = samples.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
    flat: Tensor = gradients.flatten(1)
    return flat


PENALTIES: dict[str, PenaltyFunction] = {
    "gradient": gradient_penalty,
    "r1": r1,
    "r2": r2,
    "consistency": consistency,
}
IMAGES_ONLY = frozenset({"consistency"})
"""Penalties that work on images alone."""


class GeneratorPenalty(nn.Module, ABC):
    """A penalty on the generator. What it keeps between updates are buffers, which are saved with a run's state."""

    needs: ClassVar[type]
    """The class of generators that it works on."""

    def __init__(self, weight: float, every: int = 1) -> None:
        """`weight`, `every`: as for `Penalty`."""
        super().__init__()
        self._weight = weight
        self._every = every

    def is_due(self, update: int) -> bool:
        """Whether to compute the penalty in this update, counted from 0."""
        return update % self._every == 0

    def forward(
        self, generator: Generator, latents: Tensor, condition: Tensor | None, mean: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the weighted penalty, a scalar. `mean` averages a tensor over the ranks."""
        return self._weight * self._every * self.penalty(generator, latents, condition, mean)

    @abstractmethod
    def penalty(
        self, generator: Generator, latents: Tensor, condition: Tensor | None, mean: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the penalty before its weight."""


class PathLength(GeneratorPenalty):
    """E[(‖Jᵀy‖₂ - a)²]: a step in w changes the image by the same amount everywhere.

    J is the Jacobian of the synthesis, y noise in the image, a the running mean of the norms. Karras et al. 2020,
    https://arxiv.org/abs/1912.04958, eq. 4. As there, it is computed on half of the batch.
    """

    needs = TwoStageGenerator
    _DECAY: ClassVar[float] = 0.01

    average: Tensor

    def __init__(self, weight: float, every: int = 1) -> None:
        super().__init__(weight, every)
        self.register_buffer("average", torch.zeros(()))

    def penalty(
        self, generator: Generator, latents: Tensor, condition: Tensor | None, mean: Callable[[Tensor], Tensor]
    ) -> Tensor:
        assert isinstance(generator, TwoStageGenerator)  # noqa: S101  # recipes are checked for `needs`
        count = max(1, len(latents) // 2)
        w = generator.map(latents[:count], None if condition is None else condition[:count])  # [N, layers, dim]
        samples = generator.synthesize(w)
        noise = torch.randn_like(samples) / math.sqrt(math.prod(samples.shape[2:]))
        (gradients,) = torch.autograd.grad((samples * noise).sum(), w, create_graph=True)
        lengths = gradients.square().sum(dim=2).mean(dim=1).sqrt()  # [N]
        self.average.lerp_(mean(lengths.detach().mean()), self._DECAY)
        penalty: Tensor = (lengths - self.average).square().mean()
        return penalty


GENERATOR_PENALTIES: dict[str, type[GeneratorPenalty]] = {"path_length": PathLength}
