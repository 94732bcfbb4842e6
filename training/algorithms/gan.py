"""Adversarial training: the algorithm box of the GAN papers.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn

from latentd.models.card import DataCard
from latentd.models.families import build_discriminator, build_generator
from latentd.models.family import Discriminator, Generator, GrowingNetwork
from latentd.models.spec import GeneratorSpec
from latentd.training.adversarial.augment import Augment, AugmentTable
from latentd.training.adversarial.growth import GrowthTable, grow
from latentd.training.adversarial.hints import collapse_hints, small_data_advice
from latentd.training.adversarial.objectives import OBJECTIVES, Objective
from latentd.training.adversarial.packing import pack, unpack
from latentd.training.adversarial.penalties import (
    GENERATOR_PENALTIES,
    IMAGES_ONLY,
    PENALTIES,
    Critic,
    GeneratorPenalty,
    Penalty,
    PenaltyTable,
)
from latentd.training.algorithms.base import Algorithm, Precision, Trainable, at_least_float32, microbatch_losses
from latentd.training.build import BuildContext
from latentd.training.data.source import Batch
from latentd.training.ema import Ema
from latentd.training.recipes.base import (
    LatentRecipe,
    LearningRate,
    NetworkTable,
    OptimizedRecipe,
    Table,
    require_known,
)
from latentd.training.schedule import Schedule, linear_fade


class NoiseTable(Table):
    """The `[noise]` table: instance noise on all samples that the discriminator sees. It fades linearly."""

    start: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Standard deviation in the first step, in the units of the data."""
    until: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Fraction of the steps after which there is no noise."""


class GanRecipe(LatentRecipe, OptimizedRecipe):
    """A GAN. The defaults are DCGAN's (Radford et al. 2015, https://arxiv.org/abs/1511.06434), with an EMA added."""

    discriminator_steps: PositiveInt = 1
    """Discriminator updates before each generator update (n_critic)."""
    packing: PositiveInt = 1
    """Number of samples that the discriminator judges together."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Real samples have the label 1 - `label_smoothing`."""
    mismatched_pairs: bool = False
    """Whether the discriminator also learns that real samples with the conditions of others are not real."""
    penalties: dict[str, PenaltyTable] = Field(default_factory=dict)
    """Penalties on the discriminator. They are added to the objective's own, or replace those of the same name."""
    generator_penalties: dict[str, PenaltyTable] = Field(default_factory=dict)
    """Penalties on the generator."""
    augment: AugmentTable | None = None
    noise: NoiseTable | None = None
    growth: GrowthTable | None = None
    generator_lr: LearningRate = 2e-4
    discriminator_lr: LearningRate = 2e-4
    discriminator: NetworkTable = NetworkTable()

    @field_validator("penalties")
    @classmethod
    def _penalties_exist(cls, tables: dict[str, PenaltyTable]) -> dict[str, PenaltyTable]:
        return {require_known("penalty", name, PENALTIES): table for name, table in tables.items()}

    @field_validator("generator_penalties")
    @classmethod
    def _generator_penalties_exist(cls, tables: dict[str, PenaltyTable]) -> dict[str, PenaltyTable]:
        return {require_known("penalty", name, GENERATOR_PENALTIES): table for name, table in tables.items()}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        self.make_objective()
        if self.packing > 1 and self.generator.conditional:
            raise ValueError("packing: samples of several classes cannot be judged together; leave conditional out")
        if self.mismatched_pairs and not self.generator.conditional:
            raise ValueError("mismatched_pairs: needs a generator with generator.conditional=true")
        if self.growth and self.compile:
            raise ValueError("growth: networks that grow cannot be compiled; leave compile out")
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
        return {"generator": self.build_generator, "discriminator": self.build_discriminator}

    def build_generator(self, spec: GeneratorSpec) -> Generator:
        """Return the generator of `spec`. ValueError if its family lacks what the recipe's other settings need."""
        generator = build_generator(spec)
        for name in self.generator_penalties:
            if not isinstance(generator, GENERATOR_PENALTIES[name].needs):
                raise ValueError(f"generator_penalties.{name} does not work on family {spec.family}")
        if self.growth and not isinstance(generator, GrowingNetwork):
            raise ValueError(f"growth does not work on family {spec.family}, whose networks do not grow")
        return generator

    def build_discriminator(self, spec: GeneratorSpec) -> Discriminator:
        """Return a discriminator for samples of `spec`, `packing` of them together."""
        family = self.discriminator.family or spec.family
        return build_discriminator(spec.model_copy(update={"family": family}), self.discriminator.config, self.packing)

    def advice(self, data: DataCard) -> str | None:
        return None if data.size is None else small_data_advice(self, data.size)

    def resume_key(self) -> dict[str, Any]:
        ends = {"steps": self.steps} if self.noise else {}
        return super().resume_key() | ends

    def batch_divisors(self, ranks: int) -> dict[str, int]:
        with torch.device("meta"):
            group = self.build_discriminator(self.spec()).group_size
        own = {"packing": self.packing, "discriminator.config.minibatch_std": group}
        return super().batch_divisors(ranks) | own

    def build(self, context: BuildContext) -> "GanAlgorithm":
        generator = context.network(self, "generator", self.build_generator(context.spec))
        discriminator = context.network(self, "discriminator", self.build_discriminator(context.spec))
        ema = Ema(generator, self.ema_decay)
        penalties = self.make_penalties()
        if self.compile:
            generator.compile()
            if not penalties:  # compiled networks have no second derivatives
                discriminator.compile()
        return GanAlgorithm(
            generator=context.trainable(self, generator, self.generator_lr),
            discriminator=context.trainable(self, discriminator, self.discriminator_lr),
            objective=self.make_objective(),
            ema=ema,
            batches=context.batches(self),
            draw_latents=context.draw_latents,
            seed=context.seed,
            penalties=penalties,
            generator_penalties={
                name: GENERATOR_PENALTIES[name](table.weight, table.every).to(context.device)
                for name, table in self.generator_penalties.items()
            },
            augment=self.augment.build().to(context.device) if self.augment else None,
            noise=linear_fade(self.steps, **self.noise.model_dump()) if self.noise else None,
            growth=self.growth.schedule(self.images_per_step) if self.growth else None,
            schedule=context.schedule(self),
            discriminator_steps=self.discriminator_steps,
            mismatched_pairs=self.mismatched_pairs,
            microbatches=self.microbatches,
            packing=self.packing,
            collapse_hints=collapse_hints(self),
            precision=context.precision(self),
            world=context.world,
        )


@dataclass(kw_only=True)
class GanAlgorithm(Algorithm):
    """A generator and a discriminator, updated in turn."""

    generator: Trainable[Generator]
    discriminator: Trainable[Discriminator]
    objective: Objective
    draw_latents: Callable[..., Tensor]
    """`draw_latents(count, step, purpose)` → this rank's latents [count, dim], on the device."""
    penalties: Sequence[Penalty] = ()
    generator_penalties: Mapping[str, GeneratorPenalty] = field(default_factory=dict)
    augment: Augment | None = None
    noise: Schedule | None = None
    """Step → standard deviation of the noise on all samples that the discriminator sees.

    Instance noise: Sønderby et al. 2016, https://arxiv.org/abs/1610.04490, section 2.3. Strong noise makes
    distributions overlap that lie apart, so that the discriminator's gradient says where samples are missing.
    """
    growth: Schedule | None = None
    """Step → level of the networks that grow."""
    discriminator_steps: int = 1
    """Discriminator updates before each generator update (n_critic)."""
    mismatched_pairs: bool = False
    """Whether real samples with the conditions of others are shown to the discriminator, as samples that are not real.

    GAN-CLS: Reed et al. 2016, https://arxiv.org/abs/1605.05396, algorithm 1.
    """
    packing: int = 1
    precision: Precision = contextlib.nullcontext
    """The context for networks. Penalties run outside it, because their second derivatives need float32."""

    divergence_hint = "lower the learning rates, or choose a gentler objective such as hinge"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def modules(self) -> dict[str, nn.Module]:
        augment: dict[str, nn.Module] = {} if self.augment is None else {"augment": self.augment}
        return super().modules | augment | dict(self.generator_penalties)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor | None:
        """Return the discriminator's logits in eval mode: one for `packing` samples, [N / packing], float32.

        Samples that do not fill a whole group are left out. None if there are too few for one group.
        """
        network = self.discriminator.network
        count = len(batch.samples) // (self.packing * network.group_size) * self.packing * network.group_size
        if not count:
            return None
        whole = batch[:count]
        network.eval()
        try:
            return at_least_float32(network(pack(whole.samples, self.packing), whole.condition))
        finally:
            network.train()

    def step(self, step: int) -> dict[str, Tensor]:
        """Update the discriminator `discriminator_steps` times, then the generator once.

        Return both losses; the discriminator's is that of its last update.
        """
        if self.growth:
            grow((self.generator.network, self.discriminator.network, self.ema.generator), self.growth(step))
        for index in range(self.discriminator_steps):
            batch = next(self.batches)
            discriminator_loss = self._update_discriminator(batch, step, index)
        return {"discriminator": discriminator_loss, "generator": self._update_generator(batch, step)}

    def _update_discriminator(self, batch: Batch, step: int, index: int) -> Tensor:
        update = (step - 1) * self.discriminator_steps + index
        penalties = [penalty for penalty in self.penalties if penalty.is_due(update)]
        adapts = self.augment is not None and self.augment.adapts
        signs: list[Tensor] = []

        def loss(part: Batch, latents: Tensor) -> Tensor:
            critic = self._critic(self.discriminator.wrapped, part.condition, step)
            real = pack(part.samples, self.packing)
            with self.precision():
                with torch.no_grad():
                    fake = pack(self.generator.network(latents, part.condition), self.packing)
                real_logits, fake_logits = at_least_float32(critic(real)), at_least_float32(critic(fake))
                loss = self.objective.discriminator_loss(real_logits, fake_logits)
                if self.mismatched_pairs:
                    mismatched_logits = self._mismatched_logits(part, step, fake_logits)
                    loss = (loss + self.objective.discriminator_loss(real_logits, mismatched_logits)) / 2
            if adapts:
                margin = real_logits - fake_logits if self.objective.relative else real_logits
                signs.append(margin.detach().sign().mean())
            for penalty in penalties:
                loss = loss + penalty(critic, real, at_least_float32(fake))
            return loss

        latents = self.draw_latents(len(batch.samples), step, f"discriminator {index}")
        mean_loss = self.discriminator.update(microbatch_losses(loss, batch, latents, self.microbatches))
        if self.objective.clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters:
                    parameter.clamp_(-self.objective.clip, self.objective.clip)
        if self.augment is not None and adapts:
            r_t = self.world.mean(torch.stack(signs).mean())
            self.augment.observe(r_t, len(batch.samples) * self.world.size)
        return mean_loss

    def _update_generator(self, batch: Batch, step: int) -> Tensor:
        penalties = [penalty for penalty in self.generator_penalties.values() if penalty.is_due(step - 1)]

        def loss(part: Batch, latents: Tensor) -> Tensor:
            critic = self._critic(self.discriminator.network, part.condition, step)
            with self.precision():
                fake = self.generator.wrapped(latents, part.condition)
                logits = at_least_float32(critic(pack(fake, self.packing)))
                if self.objective.relative:
                    logits = logits - at_least_float32(critic(pack(part.samples, self.packing)))
                loss = self.objective.generator_loss(logits)
            for penalty in penalties:
                loss = loss + penalty(self.generator.network, latents, part.condition, self.world.mean)
            return loss

        latents = self.draw_latents(len(batch.samples), step, "generator")
        with self.discriminator.frozen():
            return self.generator.update(microbatch_losses(loss, batch, latents, self.microbatches))

    def _mismatched_logits(self, batch: Batch, step: int, otherwise: Tensor) -> Tensor:
        """Return the logits [N] of real samples, each with the condition of the sample before it.

        Where that is the same condition, the logit is that of `otherwise` [N].
        """
        assert batch.condition is not None  # noqa: S101  # recipes are checked for it
        others = batch.condition.roll(1, 0)
        logits = at_least_float32(self._critic(self.discriminator.wrapped, others, step)(batch.samples))
        return torch.where((others != batch.condition).any(dim=1), logits, otherwise)

    def _critic(self, discriminator: nn.Module, condition: Tensor | None, step: int) -> Critic:
        """Return a function from packed samples to logits, with augmentation, noise and the condition built in."""
        deviation = self.noise(step) if self.noise else 0.0

        def critic(packed: Tensor) -> Tensor:
            if self.augment is not None:
                packed = pack(self.augment(unpack(at_least_float32(packed), self.packing)), self.packing)
            if deviation:
                packed = packed + deviation * torch.randn_like(packed)
            logits: Tensor = discriminator(packed, condition)
            return logits

        return critic


RECIPES = dict.fromkeys(OBJECTIVES, GanRecipe)
