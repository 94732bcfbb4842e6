"""Recipes of generators that are fitted to the data's mean and covariance."""

from collections.abc import Callable

from torch import nn

from latentd.models.families import build_generator
from latentd.models.family import FittedGenerator
from latentd.models.spec import GeneratorSpec
from latentd.training.recipes.base import Recipe


class GaussianRecipe(Recipe):
    """`gaussian`: the generator is fitted to all samples so far, without an optimizer."""

    needs_normal_latents = True

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return {"generator": self.build_generator}

    def build_generator(self, spec: GeneratorSpec) -> FittedGenerator:
        """Return the generator of `spec`. ValueError if its family cannot be fitted."""
        generator = build_generator(spec)
        if not isinstance(generator, FittedGenerator):
            raise ValueError(f"family {spec.family} cannot be fitted; objective gaussian needs a family such as linear")
        return generator
