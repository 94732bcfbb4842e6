"""Adversarial training, the algorithm box of the GAN papers.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.family import Discriminator, Generator
from latentd.training.augment import Augment
from latentd.training.data.source import Batch
from latentd.training.loop import Algorithm, Precision, Trainable, in_full, in_parts
from latentd.training.objectives import Objective
from latentd.training.packing import pack, unpack
from latentd.training.penalties import Critic, Penalty
from latentd.training.schedule import Schedule


@dataclass(kw_only=True)
class AdversarialAlgorithm(Algorithm):
    """The two trainables and the rules between them."""

    generator: Trainable[Generator]
    discriminator: Trainable[Discriminator]
    objective: Objective
    draw_latents: Callable[..., Tensor]
    """How many, and what they are for (step and update) → this rank's latents [N, dim], on the device."""
    penalties: Sequence[Penalty] = ()
    augment: Augment | None = None
    noise: Schedule | None = None
    """Step → standard deviation of what is added to all that the discriminator sees.

    Sønderby et al. 2016, https://arxiv.org/abs/1610.04490, section 2.3: while it is strong, distributions that lie
    apart still overlap, and the discriminator can say how much is missing where.
    """
    discriminator_steps: int = 1
    packing: int = 1
    precision: Precision = contextlib.nullcontext
    """What networks run in, but for penalties, whose second derivatives want full precision."""

    divergence_hint = "lower the learning rates, or choose a gentler objective such as hinge"

    @property
    def trainables(self) -> dict[str, Trainable[Any]]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def modules(self) -> dict[str, nn.Module]:
        modules = super().modules
        return modules if self.augment is None else modules | {"augment": self.augment}

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor | None:
        """Of as many as are judged together in training one logit; what does not fill such a group is left out."""
        network = self.discriminator.network
        count = len(batch.samples) // (self.packing * network.group_size) * self.packing * network.group_size
        if not count:
            return None
        whole = batch[:count]
        network.eval()
        try:
            return in_full(network(pack(whole.samples, self.packing), whole.condition))
        finally:
            network.train()

    def step(self, step: int) -> dict[str, Tensor]:
        """What each trainable lost, the discriminator in the last of its updates."""
        for turn in range(self.discriminator_steps):
            batch = next(self.batches)
            discriminator_loss = self._discriminator_step(batch, step, turn)
        return {"discriminator": discriminator_loss, "generator": self._generator_step(batch, step)}

    def _discriminator_step(self, batch: Batch, step: int, turn: int) -> Tensor:
        """Teach the discriminator to tell a batch of real samples from as many fakes."""
        update = (step - 1) * self.discriminator_steps + turn
        penalties = [penalty for penalty in self.penalties if penalty.is_due(update)]
        adapts = self.augment is not None and self.augment.adapts
        r_t: list[Tensor] = []

        def loss(part: Batch, latents: Tensor) -> Tensor:
            critic = self._critic(self.discriminator.learner, part.condition, step)
            real = pack(part.samples, self.packing)
            with self.precision():
                with torch.no_grad():
                    fake = pack(self.generator.network(latents, part.condition), self.packing)
                real_logits, fake_logits = in_full(critic(real)), in_full(critic(fake))
                loss = self.objective.discriminator_loss(real_logits, fake_logits)
            if adapts:
                margin = real_logits - fake_logits if self.objective.relative else real_logits
                r_t.append(margin.detach().sign().mean())
            for penalty in penalties:
                loss = loss + penalty(critic, real, in_full(fake))
            return loss

        latents = self.draw_latents(len(batch.samples), step, f"discriminator {turn}")
        mean_loss = self.discriminator.descend(in_parts(loss, batch, latents, self.microbatches))
        if self.objective.clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters:
                    parameter.clamp_(-self.objective.clip, self.objective.clip)
        if self.augment is not None and adapts:
            sure = self.world.mean(torch.stack(r_t).mean())
            self.augment.observe(sure, len(batch.samples) * self.world.size)
        return mean_loss

    def _generator_step(self, batch: Batch, step: int) -> Tensor:
        """Teach the generator to pass for real, with as many samples (of the same classes) as the batch has."""

        def loss(part: Batch, latents: Tensor) -> Tensor:
            critic = self._critic(self.discriminator.network, part.condition, step)
            with self.precision():
                fake = self.generator.learner(latents, part.condition)
                logits = in_full(critic(pack(fake, self.packing)))
                if self.objective.relative:
                    logits = logits - in_full(critic(pack(part.samples, self.packing)))
                return self.objective.generator_loss(logits)

        latents = self.draw_latents(len(batch.samples), step, "generator")
        with _held_still(self.discriminator):
            return self.generator.descend(in_parts(loss, batch, latents, self.microbatches))

    def _critic(self, discriminator: nn.Module, condition: Tensor | None, step: int) -> Critic:
        """Packed samples → logits, by way of the views and the noise through which this algorithm shows them."""
        deviation = self.noise(step) if self.noise else 0.0

        def critic(packed: Tensor) -> Tensor:
            if self.augment is not None:
                packed = pack(self.augment(unpack(in_full(packed), self.packing)), self.packing)
            if deviation:
                packed = packed + deviation * torch.randn_like(packed)
            logits: Tensor = discriminator(packed, condition)
            return logits

        return critic


@contextlib.contextmanager
def _held_still(trainable: Trainable[Any]) -> Iterator[None]:
    """Within the block, no gradients of its parameters are computed."""
    for parameter in trainable.parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable.parameters:
            parameter.requires_grad_(True)
