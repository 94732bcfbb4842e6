"""Recipes of autoencoders, plain and variational."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import nn

from latentd.models.families import build_encoder
from latentd.models.family import Encoder, Generator
from latentd.models.spec import GeneratorSpec
from latentd.training.loop import Precision
from latentd.training.reconstruction import Autoencoder, PlainAutoencoder, VariationalAutoencoder
from latentd.training.settings.base import LearningRate, LearntRecipe, NetworkTable


class EncodedRecipe(LearntRecipe):
    """An encoder and a generator that learn together."""

    lr: LearningRate = 1e-3
    """Of both networks."""
    encoder: NetworkTable = NetworkTable()

    outputs_per_latent: ClassVar[int]
    """What the encoder says of each number of a latent."""

    @model_validator(mode="after")
    def _latents_are_normal(self) -> Self:
        self.require_normal_latents()
        return self

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return super().builders | {"encoder": self.build_encoder}

    def build_encoder(self, spec: GeneratorSpec) -> Encoder:
        """The encoder for samples of `spec`."""
        return build_encoder(spec, self.encoder.config, self.outputs_per_latent * spec.input.dim)

    @abstractmethod
    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        """Both as the one network that learns."""


class AutoencoderRecipe(EncodedRecipe):
    """`reconstruction`: codes are whitened, and samples made of them again."""

    outputs_per_latent = 1

    @model_validator(mode="after")
    def _codes_know_the_class(self) -> Self:
        if self.generator.conditional:
            raise ValueError("generator.conditional: a plain autoencoder's codes hold the class already")
        return self

    @property
    def min_batch(self) -> int:
        return 2 * self.generator.latent.dim

    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        return PlainAutoencoder(encoder, generator, precision)


class VariationalRecipe(EncodedRecipe):
    """`evidence`: a variational autoencoder, by the lower bound of its evidence."""

    beta: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """Weight of the divergence of codes from the latents' distribution."""

    outputs_per_latent = 2

    def make_autoencoder(self, encoder: Encoder, generator: Generator, precision: Precision) -> Autoencoder:
        return VariationalAutoencoder(encoder, generator, precision, self.beta)
