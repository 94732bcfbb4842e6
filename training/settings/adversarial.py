"""Recipes of GANs: two networks, the objective, and what regularises the discriminator."""

from collections.abc import Callable
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import nn

from latentd.models.families import build_discriminator
from latentd.models.family import Discriminator
from latentd.models.spec import GeneratorSpec
from latentd.training.adversarial.augment import VIEWS
from latentd.training.adversarial.objectives import OBJECTIVES, Objective
from latentd.training.adversarial.penalties import IMAGES_ONLY, PENALTIES, Penalty
from latentd.training.recipes.base import LearningRate, NetworkTable, OptimizedRecipe, Table, require_known


class PenaltyTable(Table):
    """A table `[penalties.NAME]`."""

    weight: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    every: PositiveInt = 1
    """The penalty is computed in every `every`-th update, and then weighs `every` times more."""


class AugmentTable(Table):
    """The `[augment]` table: DiffAugment without a `target`, ADA with one."""

    views: tuple[str, ...] = Field(min_length=1)
    target: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The value of r_t = E[sign(D(x))] that ADA adapts p for; its paper takes 0.6."""
    speed: PositiveInt = 500_000
    """Number of real images in which p can rise from 0 to 1."""

    @field_validator("views")
    @classmethod
    def _views_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(require_known("view", name, VIEWS) for name in names)


class NoiseTable(Table):
    """The `[noise]` table: instance noise on all samples that the discriminator sees. It fades linearly."""

    start: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Standard deviation in the first step, in the units of the data."""
    until: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Fraction of the steps after which there is no noise."""


class AdversarialRecipe(OptimizedRecipe):
    """A GAN. The defaults are DCGAN's (Radford et al. 2015, https://arxiv.org/abs/1511.06434), with an EMA added."""

    discriminator_steps: PositiveInt = 1
    """Discriminator updates before each generator update (n_critic)."""
    packing: PositiveInt = 1
    """Number of samples that the discriminator judges together."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Real samples have the label 1 - `label_smoothing`."""
    penalties: dict[str, PenaltyTable] = Field(default_factory=dict)
    """Penalties on the discriminator. They are added to the objective's own, or replace those of the same name."""
    augment: AugmentTable | None = None
    noise: NoiseTable | None = None
    generator_lr: LearningRate = 2e-4
    discriminator_lr: LearningRate = 2e-4
    discriminator: NetworkTable = NetworkTable()

    @field_validator("penalties")
    @classmethod
    def _penalties_exist(cls, tables: dict[str, PenaltyTable]) -> dict[str, PenaltyTable]:
        return {require_known("penalty", name, PENALTIES): table for name, table in tables.items()}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        self.make_objective()
        if self.packing > 1 and self.generator.conditional:
            raise ValueError("packing: samples of several classes cannot be judged together; leave conditional out")
        images = self.data.output.picture_size is not None
        if self.augment is not None and not images:
            raise ValueError("augment: works on images alone")
        if not images and (wrong := IMAGES_ONLY & self.penalties.keys()):
            raise ValueError(f"penalties.{min(wrong)}: works on images alone")
        return self

    def make_objective(self) -> Objective:
        """Return the objective with its labels smoothed. ValueError if it has no labels to smooth."""
        try:
            return OBJECTIVES[self.objective].smoothed(self.label_smoothing)
        except ValueError as problem:
            raise ValueError(f"label_smoothing: {self.objective}: {problem}") from problem

    def make_penalties(self) -> list[Penalty]:
        """Return the objective's penalties, then the others of `penalties`."""
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
        """Return a discriminator for samples of `spec`, `packing` of them together."""
        return build_discriminator(spec, self.discriminator.config, self.packing)

    def resume_key(self) -> dict[str, Any]:
        ends = {"steps": self.steps} if self.noise else {}
        return super().resume_key() | ends

    def batch_divisors(self, ranks: int) -> dict[str, int]:
        with torch.device("meta"):
            group = self.build_discriminator(self.spec()).group_size
        own = {"packing": self.packing, "discriminator.config.minibatch_std": group}
        return super().batch_divisors(ranks) | own
