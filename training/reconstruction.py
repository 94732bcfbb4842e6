"""Autoencoders: an encoder says what a sample could be made of, and the generator makes it again of that.

Neither is told what is real by anybody else: they learn by one loss, together. The encoder is left behind.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latentd.models.family import Encoder, Generator
from latentd.training.data.source import Batch
from latentd.training.loop import Algorithm, Precision, Trainable, in_full, in_parts

_LEAST_VARIANCE = 1e-6
"""Of reconstructions: the likelihood of samples that are made exactly stays finite."""
_RIDGE = 1e-4
"""Of the mean variance of codes, added to each: whitening stays defined where some code never varies."""


class Autoencoder(nn.Module, ABC):
    """Encoder and generator as one network: samples → what they lose on them."""

    draws_codes: ClassVar[bool]
    """Whether a code is drawn from what the encoder says, by noise."""

    def __init__(self, encoder: Encoder, generator: Generator, precision: Precision) -> None:
        """`precision`: what the two networks, and these alone, run in."""
        super().__init__()
        self.encoder = encoder
        self.generator = generator
        self._precision = precision

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        """Samples [N, *shape], their classes (for the generator alone), normal noise [N, dim] → name → scalar.

        The noise is [N, 0] where no codes are drawn.
        """

    def _encode(self, samples: Tensor) -> Tensor:
        with self._precision():
            return in_full(self.encoder(samples))

    def _make(self, latents: Tensor, condition: Tensor | None) -> Tensor:
        with self._precision():
            return in_full(self.generator(latents, condition))


class PlainAutoencoder(Autoencoder):
    """Codes are whitened, so that they have mean and covariance of the normal latents that they stand for.

    Nothing else holds them to the normal distribution. Hinton and Salakhutdinov 2006,
    https://doi.org/10.1126/science.1127647.
    """

    draws_codes = False

    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        made = self._make(whitened(self._encode(samples)), condition)
        return {"reconstruction": (samples - made).square().mean()}


class VariationalAutoencoder(Autoencoder):
    """Minus the lower bound of the evidence, in nats a sample.

    Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, eq. 10; p(x | z) is normal with one variance for all
    values, the likeliest one (Rybkin et al. 2020, https://arxiv.org/abs/2006.13202, section 3.2). `beta` weighs the
    divergence (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl, eq. 4).
    """

    draws_codes = True

    def __init__(self, encoder: Encoder, generator: Generator, precision: Precision, beta: float = 1.0) -> None:
        super().__init__(encoder, generator, precision)
        self._beta = beta

    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._encode(samples).chunk(2, dim=1)  # each [N, dim]
        made = self._make(mean + noise * (log_variance / 2).exp(), condition)
        return {
            "reconstruction": surprise(samples, made),
            "divergence": self._beta * divergence(mean, log_variance).mean(),
        }


def whitened(codes: Tensor) -> Tensor:
    """Codes [N, dim], N > dim, with the mean of this batch taken away and its covariance made the identity.

    Siarohin et al. 2018, https://arxiv.org/abs/1806.00420, section 3.1: by the Cholesky factor. NaN where it has none.
    """
    centred = codes - codes.mean(dim=0)
    covariance = centred.T @ centred / len(codes)  # [dim, dim]
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), device=codes.device, dtype=codes.dtype)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge)
    white: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False).T  # [N, dim]
    return torch.where(failed == 0, white, torch.nan)


def surprise(samples: Tensor, made: Tensor) -> Tensor:
    """-log N(samples; made, v) a sample, in nats, with the variance v that makes it least: the mean squared error."""
    variance = (samples - made).square().mean().clamp(min=_LEAST_VARIANCE)
    return samples[0].numel() / 2 * ((2 * math.pi * variance).log() + 1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) of each row, [N, dim] → [N] (Kingma and Welling 2013, appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


@dataclass(kw_only=True)
class ReconstructionAlgorithm(Algorithm):
    """An autoencoder learns by its losses' sum."""

    autoencoder: Trainable[Autoencoder]
    draw_latents: Callable[..., Tensor]
    """How many, and what they are for (step and update) → this rank's noise [N, dim], on the device."""

    divergence_hint = "lower the learning rate (lr)"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {"autoencoder": self.autoencoder}

    def step(self, step: int) -> dict[str, Tensor]:
        batch = next(self.batches)
        lost: list[dict[str, Tensor]] = []

        def loss(part: Batch, noise: Tensor) -> Tensor:
            losses: dict[str, Tensor] = self.autoencoder.learner(part.samples, part.condition, noise)
            lost.append({name: value.detach() for name, value in losses.items()})
            return torch.stack(list(losses.values())).sum()

        count = len(batch.samples)
        draws_codes = self.autoencoder.network.draws_codes
        noise = self.draw_latents(count, step, "encoder") if draws_codes else batch.samples.new_empty(count, 0)
        self.autoencoder.descend(in_parts(loss, batch, noise, self.microbatches))
        return {name: torch.stack([part[name] for part in lost]).mean() for name in lost[0]}
