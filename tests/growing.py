"""A small family whose resolution grows, in the place of Progressive GAN."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from latentd import models
from latentd.models.family import Discriminator, Family, FamilyConfig, Generator, GrowingNetwork
from latentd.models.spec import GeneratorSpec

SIDE, TOP_LEVEL = 28, 2
"""Resolutions: 7, 14 and 28."""


def _blend(level: float, coarse: Tensor, fine: Tensor, at: int) -> Tensor:
    """Return the sum of `coarse` and of `fine`, as far as resolution `at` has faded in."""
    return coarse + min(1.0, max(0.0, level - (at - 1))) * fine


class TinyGrowing(GrowingNetwork, Generator):
    """A sum of images of growing resolution. Each is a linear function of the latent."""

    top_level = TOP_LEVEL

    def __init__(self, spec: GeneratorSpec, config: FamilyConfig) -> None:
        super().__init__(spec)
        del config
        self.level = float(TOP_LEVEL)
        self.sides = [SIDE // 2 ** (TOP_LEVEL - at) for at in range(TOP_LEVEL + 1)]
        self.images = nn.ModuleList(nn.Linear(spec.input.size, side * side) for side in self.sides)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        total = z.new_zeros(len(z), 1, SIDE, SIDE)
        for at, (side, image) in enumerate(zip(self.sides, self.images, strict=True)):
            total = _blend(self.level, total, interpolate(image(z).view(-1, 1, side, side), SIDE), at)
        return total.tanh()


class TinyGrowingDiscriminator(GrowingNetwork, Discriminator):
    """A sum of linear functions of the image at each resolution."""

    top_level = TOP_LEVEL

    def __init__(self, spec: GeneratorSpec, config: FamilyConfig) -> None:
        super().__init__()
        del spec, config
        self.level = float(TOP_LEVEL)
        self.judges = nn.ModuleList(nn.Linear((SIDE // 2 ** (TOP_LEVEL - at)) ** 2, 1) for at in range(TOP_LEVEL + 1))

    def forward(self, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        total = samples.new_zeros(len(samples))
        for at, judge in enumerate(self.judges):
            pooled = avg_pool2d(samples, 2 ** (TOP_LEVEL - at)).flatten(1)
            total = _blend(self.level, total, judge(pooled).squeeze(1), at)
        return total


FAMILY = Family(FamilyConfig, TinyGrowing, FamilyConfig, TinyGrowingDiscriminator)


@contextmanager
def registered() -> Iterator[None]:
    """Register the family while the block runs."""
    families = models.families.families() | {"tiny_growing": FAMILY}
    with mock.patch.object(models.families, "families", return_value=families):
        yield
