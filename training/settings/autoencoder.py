"""Recipes of autoencoders, plain and variational."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import nn

from latentd.models.families import build_encoder
from latentd.models.family import Encoder, Generator
from latentd.models.spec import GeneratorSpec
from latentd.training.algorithms.autoencoder import Autoencoder, PlainAutoencoder, VariationalAutoencoder
from latentd.training.loop import Precision
from latentd.training.recipes.base import LearningRate, NetworkTable, OptimizedRecipe


class EncoderRecipe(OptimizedRecipe):
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
