"""The generator contract: what a family of networks must offer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.spec import GeneratorSpec


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


class Discriminator(nn.Module, ABC):
    """A critic of samples: larger logits mean more real."""

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Samples [N, *shape] (and one-hot classes [N, classes]) → logits [N]."""


class FamilyConfig(BaseModel):
    """Arguments of a network. Defaults must not change: saved specs rely on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Family:
    """Two network classes, called as `generator(spec, config)` and `discriminator(spec, config)`."""

    generator_config: type[FamilyConfig]
    generator: Any
    discriminator_config: type[FamilyConfig]
    discriminator: Any
