"""The objectives: what the discriminator and the generator each minimise.

Every function takes logits and returns a scalar, so an objective is a value that is handed to the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

Critic = Callable[[Tensor], Tensor]
"""Samples [N, ...] → logits [N], the condition already filled in."""


@dataclass(frozen=True)
class Objective:
    """One game: `discriminator_loss(real_logits, fake_logits)`, `generator_loss(fake_logits)`, and its constraint."""

    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    generator_loss: Callable[[Tensor], Tensor]
    penalty: Callable[[Critic, Tensor, Tensor], Tensor] | None = None
    """Added to the discriminator's loss: `penalty(critic, real, fake)`."""
    clip: float | None = None
    """Largest absolute value of a discriminator's parameter after its update."""


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    return binary_cross_entropy_with_logits(real, ones) + binary_cross_entropy_with_logits(fake, zeros)


def _saturating(fake: Tensor) -> Tensor:
    return -softplus(fake).mean()  # log(1 - D(G(z))) = -softplus(logit)


def _non_saturating(fake: Tensor) -> Tensor:
    return softplus(-fake).mean()  # -log D(G(z))


def _least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def _least_squares_generator(fake: Tensor) -> Tensor:
    return 0.5 * (fake - 1).square().mean()


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _negative_mean(fake: Tensor) -> Tensor:
    return -fake.mean()


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, weight: float = 10.0) -> Tensor:
    """`weight` · E[(‖∇D(x̂)‖₂ - 1)²] at random points x̂ between real and fake (Gulrajani et al. 2017, eq. 3)."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    distance: Tensor = gradient.flatten(1).norm(dim=1) - 1  # [N]
    return weight * distance.square().mean()


OBJECTIVES: dict[str, Objective] = {
    # Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, eq. 1, and the remark after it
    "minimax": Objective(_cross_entropy, _saturating),
    "non-saturating": Objective(_cross_entropy, _non_saturating),
    # Mao et al. 2017, https://arxiv.org/abs/1611.04076, eq. 9 (a = 0, b = c = 1)
    "least-squares": Objective(_least_squares_discriminator, _least_squares_generator),
    # Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, algorithm 1 (c = 0.01)
    "wasserstein": Objective(_wasserstein, _negative_mean, clip=0.01),
    # Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, algorithm 1 (λ = 10)
    "wasserstein-gp": Objective(_wasserstein, _negative_mean, penalty=gradient_penalty),
    # Lim and Ye 2017, https://arxiv.org/abs/1705.02894; Miyato et al. 2018, https://arxiv.org/abs/1802.05957, eq. 16
    "hinge": Objective(_hinge, _negative_mean),
}
