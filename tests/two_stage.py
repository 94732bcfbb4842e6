"""A small two-stage family, in the place of StyleGAN."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from latentd import models
from latentd.models.conditions.classes import ClassCondition
from latentd.models.conditions.none import NoCondition
from latentd.models.family import Family, FamilyConfig, TwoStageGenerator
from latentd.models.inputs.latent import LatentInput, StyleSpace
from latentd.models.outputs.image import ImageOutput
from latentd.models.spec import GeneratorSpec
from tests.conftest import CLASSES

LAYERS, DIM = 3, 6


class TinyStyled(TwoStageGenerator):
    """A generator in which each layer's style adds its own pattern."""

    def __init__(self, spec: GeneratorSpec, config: FamilyConfig) -> None:
        super().__init__(spec)
        del config
        self.mapper = nn.Sequential(nn.Linear(spec.input.size + spec.condition.size, 16), nn.Tanh(), nn.Linear(16, DIM))
        self.layers = nn.ModuleList(nn.Linear(DIM, 28 * 28) for _ in range(LAYERS))
        self.mean_w.copy_(torch.linspace(-1, 1, DIM))

    def map(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        inputs = z if condition is None else torch.cat([z, condition], dim=1)
        w: Tensor = self.mapper(inputs)  # [N, DIM]
        return w[:, None].repeat(1, LAYERS, 1)

    def synthesize(self, w: Tensor) -> Tensor:
        images = sum(layer(w[:, index]) for index, layer in enumerate(self.layers))
        return torch.tanh(images).reshape(-1, 1, 28, 28)


FAMILY = Family(FamilyConfig, TinyStyled, FamilyConfig, None)


def spec(conditional: bool = False) -> GeneratorSpec:
    return GeneratorSpec(
        family="tiny_styled",
        config={},
        input=LatentInput(dim=8, w=StyleSpace(layers=LAYERS, dim=DIM)),
        condition=ClassCondition(names=CLASSES) if conditional else NoCondition(),
        output=ImageOutput(channels=1, height=28, width=28),
    )


@contextmanager
def registered() -> Iterator[None]:
    """Register the family while the block runs."""
    families = models.families.families() | {"tiny_styled": FAMILY}
    with mock.patch.object(models.families, "families", return_value=families):
        yield
