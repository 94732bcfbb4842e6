"""Recipes of generators that are fitted to mean and covariance."""

from collections.abc import Callable
from typing import Self

from pydantic import model_validator
from torch import nn

from latentd.models.families import build_generator
from latentd.models.family import FittedGenerator
from latentd.models.spec import GeneratorSpec
from latentd.training.settings.base import Recipe


class GaussianRecipe(Recipe):
    """`moments`: nothing learns; the generator is fitted to all samples so far."""

    @model_validator(mode="after")
    def _latents_are_normal(self) -> Self:
        self.require_normal_latents()
        return self

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return {"generator": self.build_generator}

    def build_generator(self, spec: GeneratorSpec) -> FittedGenerator:
        """The generator of `spec`; ValueError where it cannot be fitted."""
        generator = build_generator(spec)
        if not isinstance(generator, FittedGenerator):
            raise ValueError(f"family {spec.family} has nothing to fit: moments is for families such as linear")
        return generator
