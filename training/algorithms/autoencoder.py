"""Autoencoders, plain and variational: an encoder and a generator that learn together from one loss.

Only the generator is kept; a finished run has no use for the encoder.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from latentd.models.families import build_encoder, build_generator
from latentd.models.family import Encoder, Generator
from latentd.models.spec import GeneratorSpec
from latentd.training.algorithms.base import Algorithm, Precision, Trainable, at_least_float32, microbatch_losses
from latentd.training.build import BuildContext
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.recipes.base import LatentRecipe, LearningRate, NetworkTable, OptimizedRecipe

_MIN_VARIANCE = 1e-6
"""Smallest variance of reconstructions. It keeps the likelihood finite when a reconstruction is exact."""
_RIDGE = 1e-4
"""Added to each variance before whitening, as a part of the mean variance. Needed if a code never varies."""


class Autoencoder(nn.Module, ABC):
    """Encoder and generator as one network from samples to losses."""

    needs_noise: ClassVar[bool]
    """Whether `forward` draws codes at random and takes noise for this."""

    def __init__(self, encoder: Encoder, generator: Generator, precision: Precision) -> None:
        """`precision`: the context for the two networks; losses are computed outside it."""
        super().__init__()
        self.encoder = encoder
        self.generator = generator
        self._precision = precision

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        """Return the losses, name → scalar.

        samples: [N, *shape]. condition: one-hot classes [N, classes] for the generator, or None. noise: standard normal
        numbers [N, dim]; [N, 0] if the network needs none.
        """

    def _encode(self, samples: Tensor) -> Tensor:
        with self._precision():
            return at_least_float32(self.encoder(samples))

    def _decode(self, latents: Tensor, condition: Tensor | None) -> Tensor:
        with self._precision():
            return at_least_float32(self.generator(latents, condition))


class PlainAutoencoder(Autoencoder):
    """An autoencoder whose codes are whitened, so that they have the mean and covariance of normal latents.

    Nothing else makes the codes normal. Hinton and Salakhutdinov 2006, https://doi.org/10.1126/science.1127647.
    """

    needs_noise = False

    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        reconstruction = self._decode(whiten(self._encode(samples)), condition)
        return {"reconstruction": (samples - reconstruction).square().mean()}


class VariationalAutoencoder(Autoencoder):
    """A variational autoencoder: its losses add up to minus the evidence lower bound (ELBO), in nats a sample.

    Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, eq. 10. p(x | z) is normal, with one variance for all
    values: the maximum-likelihood one (σ-VAE, Rybkin et al. 2020, https://arxiv.org/abs/2006.13202, section 3.2).
    `beta` weights the divergence (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl, eq. 4).
    """

    needs_noise = True

    def __init__(self, encoder: Encoder, generator: Generator, precision: Precision, beta: float = 1.0) -> None:
        super().__init__(encoder, generator, precision)
        self._beta = beta

    def forward(self, samples: Tensor, condition: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self._encode(samples).chunk(2, dim=1)  # each [N, dim]
        reconstruction = self._decode(mean + noise * (log_variance / 2).exp(), condition)
        return {
            "reconstruction": negative_log_likelihood(samples, reconstruction),
            "divergence": self._beta * kl_divergence(mean, log_variance).mean(),
        }


def whiten(codes: Tensor) -> Tensor:
    """Shift and transform codes [N, dim], N > dim, to zero mean and identity covariance over this batch.

    Siarohin et al. 2018, https://arxiv.org/abs/1806.00420, section 3.1, by the Cholesky factor. All values are NaN if
    the covariance has no Cholesky factor.
    """
    centred = codes - codes.mean(dim=0)
    covariance = centred.T @ centred / len(codes)  # [dim, dim]
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), device=codes.device, dtype=codes.dtype)
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge)
    white: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False).T  # [N, dim]
    return torch.where(failed == 0, white, torch.nan)


def negative_log_likelihood(samples: Tensor, reconstruction: Tensor) -> Tensor:
    """Return -log N(samples; reconstruction, v) in nats a sample, a scalar.

    samples, reconstruction: [N, *shape]. v is the variance of maximum likelihood, which is the mean squared error.
    """
    variance = (samples - reconstruction).square().mean().clamp(min=_MIN_VARIANCE)
    return samples[0].numel() / 2 * ((2 * math.pi * variance).log() + 1)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) ‖ N(0, 1)) of each row, [N, dim] → [N] (Kingma and Welling 2013, appendix B)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


@dataclass(kw_only=True)
class ReconstructionAlgorithm(Algorithm):
    """Minimises the sum of an autoencoder's losses."""

    autoencoder: Trainable[Autoencoder]
    draw_latents: Callable[..., Tensor]
    """`draw_latents(count, step, purpose)` → this rank's noise [count, dim], on the device."""

    divergence_hint = "lower the learning rate (lr)"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {"autoencoder": self.autoencoder}

    def step(self, step: int) -> dict[str, Tensor]:
        batch = next(self.batches)
        parts: list[dict[str, Tensor]] = []

        def loss(part: Batch, noise: Tensor) -> Tensor:
            losses: dict[str, Tensor] = self.autoencoder.wrapped(part.samples, part.condition, noise)
            parts.append({name: value.detach() for name, value in losses.items()})
            return torch.stack(list(losses.values())).sum()

        count = len(batch.samples)
        needs_noise = self.autoencoder.network.needs_noise
        noise = self.draw_latents(count, step, "encoder") if needs_noise else batch.samples.new_empty(count, 0)
        self.autoencoder.update(microbatch_losses(loss, batch, noise, self.microbatches))
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


class EncoderRecipe(LatentRecipe, OptimizedRecipe):
    """An encoder and a generator that learn together."""

    lr: LearningRate = 1e-3
    """Learning rate of both networks."""
    encoder: NetworkTable = NetworkTable()

    needs_normal_latents = True
    outputs_per_latent: ClassVar[int]
    """Number of the encoder's outputs for each number of a latent."""

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return super().builders | {"encoder": self.build_encoder}

    def build_encoder(self, spec: GeneratorSpec) -> Encoder:
        """Return an encoder for samples of `spec`."""
        return build_encoder(spec, self.encoder.config, self.outputs_per_latent * spec.input.size)

    @abstractmethod
    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        """Return both networks as one, with its loss."""

    def build(self, context: BuildContext) -> "ReconstructionAlgorithm":
        generator = context.network(self, "generator", build_generator(context.spec))
        encoder = context.network(self, "encoder", self.build_encoder(context.spec))
        ema = Ema(generator, self.ema_decay)
        if self.compile:
            generator.compile()
            encoder.compile()
        autoencoder = self.make_autoencoder(encoder, generator, context.precision(self))
        return ReconstructionAlgorithm(
            autoencoder=context.trainable(self, autoencoder, self.lr),
            ema=ema,
            batches=context.batches(self),
            draw_latents=context.draw_latents,
            seed=context.seed,
            schedule=context.schedule(self),
            microbatches=self.microbatches,
            world=context.world,
        )


class AutoencoderRecipe(EncoderRecipe):
    """`reconstruction`: a plain autoencoder with whitened codes."""

    outputs_per_latent = 1

    @model_validator(mode="after")
    def _is_unconditional(self) -> Self:
        if self.generator.conditional:
            raise ValueError("generator.conditional: a plain autoencoder's codes hold the class already")
        return self

    @property
    def min_batch(self) -> int:
        """Twice the latent's size: whitening inverts a covariance matrix of the codes."""
        return 2 * self.generator.latent.dim

    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        return PlainAutoencoder(encoder, generator, precision)


class VariationalRecipe(EncoderRecipe):
    """`elbo`: a variational autoencoder, trained on the evidence lower bound."""

    beta: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Weight of the divergence of codes from the prior (β-VAE)."""

    outputs_per_latent = 2  # mean and log variance

    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        return VariationalAutoencoder(encoder, generator, precision, self.beta)


RECIPES = {"reconstruction": AutoencoderRecipe, "elbo": VariationalRecipe}
