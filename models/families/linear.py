"""`linear`: the mean of the data plus its principal components. With normal latents, a normal distribution.

Principal components: Pearson 1901, https://doi.org/10.1080/14786440109462720; as a generator, Tipping and Bishop 1999,
https://doi.org/10.1111/1467-9868.00196, eq. 2, here without noise.
"""

import math

import torch
from torch import Tensor

from latentd.models.family import Family, FamilyConfig, FittedGenerator
from latentd.models.layers import BatchInvariantLinear
from latentd.models.spec import GeneratorSpec


class LinearConfig(FamilyConfig):
    """The family has no settings."""


class LinearGenerator(FittedGenerator):
    """x = mean + W z, clipped to [-1, 1] if the output is bounded."""

    def __init__(self, spec: GeneratorSpec, config: LinearConfig) -> None:
        super().__init__(spec)
        del config
        values = math.prod(spec.output.shape)
        if spec.condition.size:
            raise ValueError("family linear takes no condition; leave out `conditional`")
        if spec.input.size > values:
            raise ValueError(f"a latent of {spec.input.size} numbers is more than the {values} of a sample")
        self.layer = BatchInvariantLinear(spec.input.size, values)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        samples: Tensor = self.layer(z).unflatten(1, self.spec.output.shape)  # [N, *shape]
        return samples.clamp(-1.0, 1.0) if self.spec.output.bounded else samples

    @torch.no_grad()
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the columns of W to the largest principal components, in descending order.

        A column's length is the standard deviation along it.
        """
        variances, directions = torch.linalg.eigh(covariance)  # [values], [values, values], in ascending order
        components = directions * variances.clamp(min=0.0).sqrt()
        self.layer.weight.copy_(components[:, -self.spec.input.size :].flip(1))
        self.layer.bias.copy_(mean)


FAMILY = Family(LinearConfig, LinearGenerator)
