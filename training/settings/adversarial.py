"""Recipes of GANs: two networks, the objective between them, and what regularises the discriminator."""

from collections.abc import Callable
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import nn

from latentd.models.families import build_discriminator
from latentd.models.family import Discriminator
from latentd.models.outputs import ImageOutput
from latentd.models.spec import GeneratorSpec
from latentd.training.augment import VIEWS
from latentd.training.objectives import OBJECTIVES, Objective
from latentd.training.penalties import IMAGES_ONLY, PENALTIES, Penalty
from latentd.training.settings.base import LearningRate, LearntRecipe, NetworkTable, Table, known


class PenaltyTable(Table):
    """One of `[penalties]`, by its name."""

    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    every: PositiveInt = 1
    """Computed at every so many updates, and then so many times as heavy."""


class AugmentTable(Table):
    """The `[augment]` table: what the discriminator sees images through; with a `target`, adaptively."""

    views: tuple[str, ...] = Field(min_length=1)
    target: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """E[sign(D(x))] that p is adapted for; ADA's paper has 0.6. Without one, every image is changed by every view."""
    speed: PositiveInt = 500_000
    """Real images until p could rise from 0 to 1."""

    @field_validator("views")
    @classmethod
    def _views_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(known("view", name, VIEWS) for name in names)


class NoiseTable(Table):
    """The `[noise]` table: instance noise, which blurs what the discriminator sees, less and less."""

    start: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Its standard deviation at the first step, in the units of the data."""
    until: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """The share of the steps after which it is gone."""


class AdversarialRecipe(LearntRecipe):
    """A generator against a discriminator. The defaults are DCGAN's (Radford et al. 2015), but for the EMA."""

    discriminator_steps: PositiveInt = 1
    """Discriminator updates before each generator update."""
    packing: PositiveInt = 1
    """Samples that the discriminator judges together."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """What the label of real samples falls short of 1."""
    penalties: dict[str, PenaltyTable] = Field(default_factory=dict)
    """On the discriminator, beside those of the objective, or in their place."""
    augment: AugmentTable | None = None
    noise: NoiseTable | None = None
    generator_lr: LearningRate = 2e-4
    discriminator_lr: LearningRate = 2e-4
    discriminator: NetworkTable = NetworkTable()

    @field_validator("penalties")
    @classmethod
    def _penalties_exist(cls, tables: dict[str, PenaltyTable]) -> dict[str, PenaltyTable]:
        return {known("penalty", name, PENALTIES): table for name, table in tables.items()}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        self.make_objective()
        if self.packing > 1 and self.generator.conditional:
            raise ValueError("packing: samples of several classes cannot be judged together; leave conditional away")
        images = isinstance(self.data.output, ImageOutput)
        if self.augment is not None and not images:
            raise ValueError("augment: there are views of images alone")
        if not images and (wrong := IMAGES_ONLY & self.penalties.keys()):
            raise ValueError(f"penalties.{min(wrong)}: there are views of images alone")
        return self

    def make_objective(self) -> Objective:
        """The objective with its labels smoothed; ValueError where it has none."""
        try:
            return OBJECTIVES[self.objective].smoothed(self.label_smoothing)
        except ValueError as problem:
            raise ValueError(f"label_smoothing: {self.objective}: {problem}") from problem

    def make_penalties(self) -> list[Penalty]:
        """Those of the objective and those of `penalties`, which take their places."""
        own = {name: PenaltyTable(weight=weight) for name, weight in OBJECTIVES[self.objective].penalties.items()}
        tables = own | self.penalties
        return [Penalty(PENALTIES[name], table.weight, table.every) for name, table in tables.items()]

    @property
    def batches_per_step(self) -> int:
        return self.discriminator_steps

    @property
    def builders(self) -> dict[str, Callable[[GeneratorSpec], nn.Module]]:
        return super().builders | {"discriminator": self.build_discriminator}

    def build_discriminator(self, spec: GeneratorSpec) -> Discriminator:
        """The discriminator for as many samples of `spec` as this recipe shows it together."""
        return build_discriminator(spec, self.discriminator.config, self.packing)

    def resume_key(self) -> dict[str, Any]:
        ends = {"steps": self.steps} if self.noise else {}
        return super().resume_key() | ends

    def divisors(self, ranks: int) -> dict[str, int]:
        with torch.device("meta"):
            group = self.build_discriminator(self.spec()).group_size
        own = {"packing": self.packing, "discriminator.config.minibatch_std": group}
        return super().divisors(ranks) | own
