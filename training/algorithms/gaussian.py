"""A normal distribution fitted to the samples' values: the simplest generator, and a baseline for all others."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from latentd.models.families import build_generator
from latentd.models.family import FittedGenerator
from latentd.models.spec import GeneratorSpec
from latentd.training.algorithms.base import Algorithm, Trainable
from latentd.training.build import BuildContext
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.recipes.base import LatentRecipe


class GaussianRecipe(LatentRecipe):
    """`gaussian`: the generator is fitted to all samples so far, without an optimizer."""

    needs_normal_latents = True

    @model_validator(mode="after")
    def _has_no_first_weights(self) -> Self:
        if self.begin_from:
            raise ValueError(
                "begin_from: the generator is fitted to the data, and needs no first weights; leave it out"
            )
        return self

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return {"generator": self.build_generator}

    def build_generator(self, spec: GeneratorSpec) -> FittedGenerator:
        """Return the generator of `spec`. ValueError if its family cannot be fitted."""
        generator = build_generator(spec)
        if not isinstance(generator, FittedGenerator):
            raise ValueError(f"family {spec.family} cannot be fitted; objective gaussian needs a family such as linear")
        return generator

    def build(self, context: BuildContext) -> "GaussianAlgorithm":
        generator = context.network(self, "generator", self.build_generator(context.spec))
        return GaussianAlgorithm(
            generator=generator,
            moments=Moments(math.prod(context.spec.output.shape)).to(context.device),
            ema=Ema(generator, decay=0.0),
            batches=context.batches(self),
            seed=context.seed,
            microbatches=self.microbatches,
            world=context.world,
        )


class Moments(nn.Module):
    """Running first and second moments of samples, over batches of equal size, in float64."""

    mean: Tensor
    products: Tensor

    def __init__(self, values: int) -> None:
        """`values`: numbers in a sample."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(values, dtype=torch.float64))
        self.register_buffer("products", torch.zeros(values, values, dtype=torch.float64))

    def add(self, mean: Tensor, products: Tensor, number: int) -> None:
        """Add batch `number`, counted from 1, with its moments E[x], [values], and E[x xᵀ], [values, values]."""
        self.mean.lerp_(mean, 1 / number)
        self.products.lerp_(products, 1 / number)

    @property
    def covariance(self) -> Tensor:
        """The covariance of all samples so far, [values, values]."""
        return self.products - self.mean.outer(self.mean)


@dataclass(kw_only=True)
class GaussianAlgorithm(Algorithm):
    """Fits the generator in each step to all batches up to this one."""

    generator: FittedGenerator
    moments: Moments

    divergence_hint = "look for values in the data that are not finite"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {}

    @property
    def modules(self) -> dict[str, nn.Module]:
        return super().modules | {"moments": self.moments}

    def step(self, step: int) -> dict[str, Tensor]:
        """Add a batch and fit. Return how far the batch moved the mean: root mean square over values."""
        before = self.moments.mean.clone()
        parts = [_moments_of(part) for part in next(self.batches).split(self.microbatches)]
        mean, products = (self.world.mean(torch.stack(each).mean(dim=0)) for each in zip(*parts, strict=True))
        self.moments.add(mean, products, step)
        self.generator.fit(self.moments.mean, self.moments.covariance)
        return {"change": (self.moments.mean - before).square().mean().sqrt()}


def _moments_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return E[x], [values], and E[x xᵀ], [values, values], of a batch."""
    values = batch.samples.flatten(1).double()  # [N, values]
    return values.mean(dim=0), values.T @ values / len(values)


RECIPES = {"gaussian": GaussianRecipe}
