"""A small family whose input is a picture, in the place of CycleGAN. It has a control, too."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from latentd import models
from latentd.models.conditions.classes import ClassCondition
from latentd.models.conditions.none import NoCondition
from latentd.models.family import Control, Family, FamilyConfig, Generator
from latentd.models.inputs.image import ImageInput
from latentd.models.outputs.image import ImageOutput
from latentd.models.spec import GeneratorSpec
from tests.conftest import CLASSES

SIDE = 8


class TinyTranslator(Generator):
    """Mixes a convolution of the picture with the picture itself. The class adds its own brightness."""

    def __init__(self, spec: GeneratorSpec, config: FamilyConfig) -> None:
        super().__init__(spec)
        del config
        self.convolution = nn.Conv2d(spec.input.shape[0], spec.output.shape[0], 3, padding=1)
        self.brightness = nn.Linear(spec.condition.size, 1, bias=False) if spec.condition.size else None

    def forward(self, z: Tensor, condition: Tensor | None = None, controls: Tensor | None = None) -> Tensor:
        assert controls is not None
        strength = controls[:, :1, None, None]  # [N, 1, 1, 1]
        samples = (1 - strength) * z.mean(dim=1, keepdim=True) + strength * self.convolution(z)
        if self.brightness is not None:
            samples = samples + self.brightness(condition)[:, :, None, None]
        return torch.tanh(samples)


FAMILY = Family(
    FamilyConfig, TinyTranslator, controls=lambda _: (Control("strength", default=1.0, minimum=0.0, maximum=1.0),)
)


def spec(conditional: bool = False) -> GeneratorSpec:
    return GeneratorSpec(
        family="tiny_translator",
        config={},
        input=ImageInput(channels=3, height=SIDE, width=SIDE),
        condition=ClassCondition(names=CLASSES) if conditional else NoCondition(),
        output=ImageOutput(channels=3, height=SIDE, width=SIDE),
    )


@contextmanager
def registered() -> Iterator[None]:
    """Register the family while the block runs."""
    families = models.families.families() | {"tiny_translator": FAMILY}
    with mock.patch.object(models.families, "families", return_value=families):
        yield
