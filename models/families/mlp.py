"""`mlp`: fully connected networks for points and small images, as in the first paper.

Goodfellow et al. 2014, "Generative Adversarial Nets" (https://arxiv.org/abs/1406.2661).
"""

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from latentd.models.family import Discriminator, Encoder, Family, FamilyConfig, Generator
from latentd.models.layers import FourierFeatures, MinibatchStd, maybe_spectral_norm
from latentd.models.spec import GeneratorSpec

HiddenSizes = tuple[Annotated[int, Field(ge=1, le=65536)], ...]


class MlpConfig(FamilyConfig):
    """The generator's arguments."""

    hidden: HiddenSizes = Field(default=(256,), min_length=1, max_length=32, fail_fast=True)
    """Sizes of the hidden layers."""
    leaky_slope: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Slope of the leaky ReLU below zero; 0 is a plain ReLU."""


class MlpDiscriminatorConfig(FamilyConfig):
    """The discriminator's arguments. A leaky ReLU and dropout follow each hidden layer."""

    hidden: HiddenSizes = Field(default=(256,), min_length=1, max_length=32, fail_fast=True)
    leaky_slope: float = Field(default=0.2, ge=0.0, lt=1.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    norm: Literal["spectral", "none"] = "none"
    minibatch_std: int = Field(default=0, ge=0)
    """Group size of a MinibatchStd layer before the logit; 0: no such layer."""
    frequencies: int = Field(default=0, ge=0, le=65536)
    """Number of Fourier features of the input; 0: none."""
    bandwidth: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Standard deviation of their frequencies, in radians per unit."""


class MlpEncoderConfig(FamilyConfig):
    """The encoder's arguments, as MlpConfig's."""

    hidden: HiddenSizes = Field(default=(256,), min_length=1, max_length=32, fail_fast=True)
    leaky_slope: float = Field(default=0.0, ge=0.0, lt=1.0)


class MlpGenerator(Generator):
    """Latent → hidden layers → a sample of any shape, with a final tanh if the output is bounded."""

    def __init__(self, spec: GeneratorSpec, config: MlpConfig) -> None:
        super().__init__(spec)
        _require_no_condition(spec)
        layers = _hidden_layers([spec.input.size, *config.hidden], config.leaky_slope)
        self.layers = nn.Sequential(
            *layers,
            nn.Linear(config.hidden[-1], math.prod(spec.output.shape)),
            nn.Tanh() if spec.output.bounded else nn.Identity(),
            nn.Unflatten(1, spec.output.shape),
        )

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        samples: Tensor = self.layers(z)  # [N, *shape]
        return samples


class MlpDiscriminator(Discriminator):
    """A sample of any shape → hidden layers → a logit."""

    def __init__(self, spec: GeneratorSpec, config: MlpDiscriminatorConfig) -> None:
        super().__init__()
        _require_no_condition(spec)
        values = math.prod(spec.output.shape)
        fourier = [FourierFeatures(values, config.frequencies, config.bandwidth)] if config.frequencies else []
        sizes = [values + 2 * config.frequencies, *config.hidden]
        self.group_size = config.minibatch_std or 1
        minibatch_std = [MinibatchStd(config.minibatch_std)] if config.minibatch_std else []
        self.layers = nn.Sequential(
            nn.Flatten(),
            *fourier,
            *_hidden_layers(sizes, config.leaky_slope, config.dropout, config.norm),
            *minibatch_std,
            maybe_spectral_norm(nn.Linear(config.hidden[-1] + len(minibatch_std), 1), config.norm),
            nn.Flatten(0),
        )

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        logits: Tensor = self.layers(samples)  # [N]
        return logits


class MlpEncoder(Encoder):
    """A sample of any shape → hidden layers → outputs."""

    def __init__(self, spec: GeneratorSpec, config: MlpEncoderConfig, outputs: int) -> None:
        super().__init__()
        layers = _hidden_layers([math.prod(spec.output.shape), *config.hidden], config.leaky_slope)
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(config.hidden[-1], outputs))

    def forward(self, samples: Tensor) -> Tensor:
        outputs: Tensor = self.layers(samples)  # [N, outputs]
        return outputs


def _hidden_layers(sizes: list[int], leaky_slope: float, dropout: float = 0.0, norm: str = "none") -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [maybe_spectral_norm(nn.Linear(inputs, outputs), norm), nn.LeakyReLU(leaky_slope)]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return layers


def _require_no_condition(spec: GeneratorSpec) -> None:
    if spec.condition.size:
        raise ValueError("family mlp takes no condition; use dcgan for class-conditional images")


FAMILY = Family(MlpConfig, MlpGenerator, MlpDiscriminatorConfig, MlpDiscriminator, MlpEncoderConfig, MlpEncoder)
