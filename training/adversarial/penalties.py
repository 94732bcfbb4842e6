"""Penalties that keep a discriminator smooth. Each is a function of critic, real and fake samples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentd.training.adversarial.augment import flip_and_translate

Critic = Callable[[Tensor], Tensor]
"""Samples [N, ...] → logits [N]. The condition is built in."""

PenaltyFunction = Callable[[Critic, Tensor, Tensor], Tensor]
"""`penalty(critic, real, fake)` → a scalar, before its weight."""


@dataclass(frozen=True)
class Penalty:
    """A penalty function with its weight. Computed in every `every`-th update, where it weighs `every` times more.

    Lazy regularisation: Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B. (The penalty is part of the
    same update as the loss, so the optimizer's settings need no correction.)
    """

    function: PenaltyFunction
    weight: float
    every: int = 1

    def is_due(self, update: int) -> bool:
        """Whether to compute the penalty in this update of the discriminator, counted from 0."""
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
