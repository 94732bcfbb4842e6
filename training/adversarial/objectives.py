"""Objectives of GANs: the losses that the discriminator and the generator minimise.

Each function takes logits, [N], and returns a scalar.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus


@dataclass(frozen=True)
class Objective:
    """The two losses, and the constraints on the discriminator that belong to them."""

    discriminator_loss: Callable[..., Tensor]
    """`discriminator_loss(real_logits, fake_logits)`, with `label=` if `has_labels`."""
    generator_loss: Callable[[Tensor], Tensor]
    """`generator_loss(fake_logits)`, or of the differences fake - real if `relative`."""
    relative: bool = False
    """Whether losses depend on the differences of logits of real and fake pairs."""
    has_labels: bool = False
    """Whether `discriminator_loss` takes the `label` of real samples."""
    penalties: Mapping[str, float] = field(default_factory=dict)
    """Penalties that belong to the objective: name → weight."""
    clip: float | None = None
    """Largest absolute value of the discriminator's parameters after each update."""

    def smoothed(self, smoothing: float) -> "Objective":
        """Return the objective with the label 1 - `smoothing` for real samples. ValueError if it has no labels.

        One-sided label smoothing: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.4.
        """
        if not smoothing:
            return self
        if not self.has_labels:
            raise ValueError("it has no labels to smooth")
        return replace(self, discriminator_loss=partial(self.discriminator_loss, label=1 - smoothing))


def _cross_entropy(real: Tensor, fake: Tensor, label: float = 1.0) -> Tensor:
    labels, zeros = torch.full_like(real, label), torch.zeros_like(fake)
    return binary_cross_entropy_with_logits(real, labels) + binary_cross_entropy_with_logits(fake, zeros)


def _saturating(fake: Tensor) -> Tensor:
    return -softplus(fake).mean()  # log(1 - D(G(z))) = -softplus(logit)


def _non_saturating(fake: Tensor) -> Tensor:
    return softplus(-fake).mean()  # -log D(G(z))


def _least_squares_discriminator(real: Tensor, fake: Tensor, label: float = 1.0) -> Tensor:
    return 0.5 * (real - label).square().mean() + 0.5 * fake.square().mean()


def _least_squares_generator(fake: Tensor) -> Tensor:
    return 0.5 * (fake - 1).square().mean()


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _negative_mean(fake: Tensor) -> Tensor:
    return -fake.mean()


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(fake - real).mean()  # -log sigmoid(D(x) - D(G(z)))


OBJECTIVES: dict[str, Objective] = {
    # Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, eq. 1, and the remark after it
    "minimax": Objective(_cross_entropy, _saturating, has_labels=True),
    "non-saturating": Objective(_cross_entropy, _non_saturating, has_labels=True),
    # Mao et al. 2017, https://arxiv.org/abs/1611.04076, eq. 9 (a = 0, b = c = 1)
    "least-squares": Objective(_least_squares_discriminator, _least_squares_generator, has_labels=True),
    # Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, algorithm 1 (c = 0.01)
    "wasserstein": Objective(_wasserstein, _negative_mean, clip=0.01),
    # Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, algorithm 1 (λ = 10)
    "wasserstein-gp": Objective(_wasserstein, _negative_mean, penalties={"gradient": 10.0}),
    # Lim and Ye 2017, https://arxiv.org/abs/1705.02894; Miyato et al. 2018, https://arxiv.org/abs/1802.05957, eq. 16
    "hinge": Objective(_hinge, _negative_mean),
    # RpGAN: Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734; Huang et al. 2024 (R3GAN),
    # https://arxiv.org/abs/2501.05441, eq. 2
    "relativistic": Objective(_relativistic, _non_saturating, relative=True),
}
