"""The generator contract: what a family of networks must offer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from latentd.models.spec import GeneratorSpec


class Generator(nn.Module, ABC):
    """A deterministic function from a latent (and a condition) to a sample.

    `forward` holds no random number, no device and no file: everything that varies comes in as an argument.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents [N, dim] → samples [N, *spec.output.shape].

        `condition` [N, classes] holds a class weight in each column, one-hot for a single class, so that a blend of
        two rows is a blend of the classes' embeddings. It is None exactly where the spec has no condition.
        """


class TwoStageGenerator(Generator):
    """A generator that maps a latent to a style for each layer (w), and makes the sample from these alone.

    Karras et al. 2019, https://arxiv.org/abs/1812.04948. Its spec says the shape of w in `input.w`.
    """

    mean_w: Tensor
    """[w.dim]: what truncation moves styles toward."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__(spec)
        if spec.input.w is None:
            raise ValueError("a generator of two stages says in input.w what lies between them")
        self.register_buffer("mean_w", torch.zeros(spec.input.w.dim))

    @abstractmethod
    def map(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents [N, dim] → w [N, w.layers, w.dim]; `condition` as in `forward`."""

    @abstractmethod
    def synthesize(self, w: Tensor) -> Tensor:
        """w [N, w.layers, w.dim] → samples [N, *spec.output.shape]."""

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.synthesize(self.map(z, condition))


class FittedGenerator(Generator):
    """A generator whose weights follow from the mean and the covariance of what it shall make."""

    @abstractmethod
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Take the mean [values] and the covariance [values, values] of flattened samples, on its device."""


class Encoder(nn.Module, ABC):
    """From samples to what a generator could make them of."""

    @abstractmethod
    def forward(self, samples: Tensor) -> Tensor:
        """Samples [N, *shape] → so many outputs as it was built with, [N, outputs]."""


class Discriminator(nn.Module, ABC):
    """A critic of samples: larger logits mean more real."""

    group_size: int = 1
    """A batch must be a multiple of it: so many neighbours are compared with one another."""

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Samples [N, *shape] (and one-hot classes [N, classes]) → logits [N]."""


class FamilyConfig(BaseModel):
    """Arguments of a network. Defaults must not change: saved specs rely on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Family:
    """Network classes, called as `generator(spec, config)`; `discriminator` too; an `encoder` also with its outputs.

    A family without a discriminator takes no part in adversarial games, one without an encoder in no autoencoder.
    """

    generator_config: type[FamilyConfig]
    generator: Any
    discriminator_config: type[FamilyConfig] | None = None
    discriminator: Any = None
    encoder_config: type[FamilyConfig] | None = None
    encoder: Any = None
