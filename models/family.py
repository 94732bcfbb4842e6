"""The generator contract: the classes that a family of networks implements."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from latentd.models.spec import GeneratorSpec


class Generator(nn.Module, ABC):
    """A deterministic function from a latent (and a condition) to a sample.

    `forward` draws no random numbers, names no device and reads no file: all that varies is an argument.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map latents [N, dim] to samples [N, *spec.output.shape].

        `condition`: class weights [N, classes], one-hot for a single class, so that a mean of rows is a mean of class
        embeddings. None if, and only if, the spec has no classes.
        """


class TwoStageGenerator(Generator):
    """A generator that maps a latent to w, a style for each layer, and synthesizes the sample from w alone.

    Karras et al. 2019, https://arxiv.org/abs/1812.04948. `spec.input.w` has the shape of w.
    """

    mean_w: Tensor
    """The mean style [w.dim], toward which truncation moves styles."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__(spec)
        if spec.input.w is None:
            raise ValueError("the spec of a two-stage generator needs input.w, the shape of w")
        self.register_buffer("mean_w", torch.zeros(spec.input.w.dim))

    @abstractmethod
    def map(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map latents [N, dim] to w [N, w.layers, w.dim]. `condition`: as in `forward`."""

    @abstractmethod
    def synthesize(self, w: Tensor) -> Tensor:
        """Map w [N, w.layers, w.dim] to samples [N, *spec.output.shape]."""

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.synthesize(self.map(z, condition))


class FittedGenerator(Generator):
    """A generator whose weights are computed from the mean and the covariance of the data."""

    @abstractmethod
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the weights from the mean [values] and the covariance [values, values] of flattened samples.

        Both are on the generator's device.
        """


class Encoder(nn.Module, ABC):
    """The inverse direction: from samples to latents, or to the parameters of their distribution."""

    @abstractmethod
    def forward(self, samples: Tensor) -> Tensor:
        """Map samples [N, *shape] to [N, outputs]."""


class Discriminator(nn.Module, ABC):
    """Judges how real samples are: larger logits mean more real."""

    group_size: int = 1
    """Number of neighbours that are compared with one another; the batch size must be a multiple of it."""

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map samples [N, *shape] to logits [N]. `condition`: as in `Generator.forward`."""


class FamilyConfig(BaseModel):
    """Arguments of a network. Defaults must never change, because stored specs rely on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Family:
    """A family's networks, each a class with the class of its config.

    `generator` and `discriminator` are called with (spec, config), `encoder` with (spec, config, outputs). A family
    without a discriminator cannot be trained as a GAN, and one without an encoder not as an autoencoder.
    """

    generator_config: type[FamilyConfig]
    generator: Any
    discriminator_config: type[FamilyConfig] | None = None
    discriminator: Any = None
    encoder_config: type[FamilyConfig] | None = None
    encoder: Any = None
