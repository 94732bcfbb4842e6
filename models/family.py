"""The generator contract: the classes that a family of networks implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from latentd.models.spec import GeneratorSpec
from latentd.models.stage_input import StageSignature


@dataclass(frozen=True)
class Control:
    """A number that a request may set, such as a temperature. It is a part of a sample's provenance."""

    name: str
    default: float
    minimum: float
    maximum: float


class Stage(nn.Module):
    """One of a generator's functions, with the generator's parameters. Stages are calibrated and batched separately."""

    def __init__(self, generator: "Generator", takes: StageSignature, function: Callable[..., Tensor]) -> None:
        """`function`: takes the input [N, ...], and `condition` and `controls` if `takes` says so."""
        super().__init__()
        self.generator = generator
        self.takes = takes
        self._function = function
        self._keywords = ["condition"] * takes.condition + ["controls"] * takes.controls

    def forward(self, inputs: Tensor, *others: Tensor) -> Tensor:
        output: Tensor = self._function(inputs, **dict(zip(self._keywords, others, strict=True)))
        return output


class Generator(nn.Module, ABC):
    """A deterministic function from an input, such as a latent, and a condition to a sample.

    `forward` draws no random numbers, names no device and reads no file: all that varies is an argument.
    """

    controls: tuple[Control, ...] = ()
    """Those that the family declares for the spec."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map inputs [N, *spec.input.shape] to samples [N, *spec.output.shape].

        `condition`: rows [N, spec.condition.size]; a mean of rows is a mean of conditions. None if, and only if, the
        spec has no condition. A generator with controls takes `controls` [N, number of controls] as well.
        """

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The functions that lead from an input to a sample, in order."""
        return (Stage(self, self.first_signature("synthesis"), self.forward),)

    def first_signature(self, name: str) -> StageSignature:
        """Return the signature of a stage that takes the generator's input, with condition and controls if any."""
        space = next(iter(self.spec.input.spaces), None)
        return StageSignature(name, space, condition=bool(self.spec.condition.size), controls=bool(self.controls))


class TwoStageGenerator(Generator):
    """A generator that maps a latent to w, a style for each layer, and synthesizes the sample only from w.

    Karras et al. 2019, https://arxiv.org/abs/1812.04948. `spec.input.w` has the shape of w.
    """

    mean_w: Tensor
    """The mean style [w.dim], toward which truncation moves styles."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__(spec)
        space, dim = spec.input.direction_space or (None, 0)
        if space != "w":
            raise ValueError("the spec of a two-stage generator needs input.w, the shape of w")
        self.register_buffer("mean_w", torch.zeros(dim))

    @abstractmethod
    def map(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map latents [N, dim] to w [N, w.layers, w.dim]. `condition`: as in `forward`."""

    @abstractmethod
    def synthesize(self, w: Tensor) -> Tensor:
        """Map w [N, w.layers, w.dim] to samples [N, *spec.output.shape]."""

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.synthesize(self.map(z, condition))

    @property
    def stages(self) -> tuple[Stage, ...]:
        synthesis = StageSignature("synthesis", "w", mean=self.mean_w.cpu().numpy())
        return (Stage(self, self.first_signature("mapping"), self.map), Stage(self, synthesis, self.synthesize))


class FittedGenerator(Generator):
    """A generator whose weights are computed from the mean and the covariance of the data."""

    @abstractmethod
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the weights from the mean [values] and the covariance [values, values] of flattened samples.

        Both are on the generator's device.
        """


class Encoder(nn.Module, ABC):
    """Maps samples to latents, or to the parameters of a distribution of latents."""

    @abstractmethod
    def forward(self, samples: Tensor) -> Tensor:
        """Map samples [N, *shape] to [N, outputs]."""


class Discriminator(nn.Module, ABC):
    """Rates how real samples look: a larger logit means more real."""

    group_size: int = 1
    """Number of neighbors that are compared with one another; the batch size must be a multiple of it."""

    @abstractmethod
    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map samples [N, *shape] to logits [N]. `condition`: as in `Generator.forward`."""


class GrowingNetwork(nn.Module):
    """A network whose resolution can grow while it is trained, as a mixin for generators and discriminators.

    Level 0 is the smallest resolution. At level k + f, 0 < f < 1, resolution k + 1 fades in with the weight f. At every
    level, samples have the spec's full size. The level is saved with the weights.
    """

    top_level: int
    """The level of the full resolution."""
    level: float
    """The level at which `forward` works. A new network begins at its top level."""

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.level, dtype=torch.float32)

    def set_extra_state(self, state: Tensor) -> None:
        self.level = float(state)


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
    controls: Callable[[GeneratorSpec], tuple[Control, ...]] = lambda _: ()
    """The numbers that a request may set for each sample of a spec, such as a temperature."""
