"""Adversarial training: the algorithm box of the GAN papers.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentd.models.family import Discriminator, Generator
from latentd.training.adversarial.augment import Augment
from latentd.training.adversarial.objectives import Objective
from latentd.training.adversarial.packing import pack, unpack
from latentd.training.adversarial.penalties import Critic, Penalty
from latentd.training.data.source import Batch
from latentd.training.loop import Algorithm, Precision, Trainable, at_least_float32, microbatch_losses
from latentd.training.schedule import Schedule


@dataclass(kw_only=True)
class AdversarialAlgorithm(Algorithm):
    """A generator and a discriminator, updated in turn."""

    generator: Trainable[Generator]
    discriminator: Trainable[Discriminator]
    objective: Objective
    draw_latents: Callable[..., Tensor]
    """`draw_latents(count, step, purpose)` → this rank's latents [count, dim], on the device."""
    penalties: Sequence[Penalty] = ()
    augment: Augment | None = None
    noise: Schedule | None = None
    """Step → standard deviation of the noise on all samples that the discriminator sees.

    Instance noise: Sønderby et al. 2016, https://arxiv.org/abs/1610.04490, section 2.3. Strong noise makes
    distributions overlap that lie apart, so that the discriminator's gradient says where samples are missing.
    """
    discriminator_steps: int = 1
    """Discriminator updates before each generator update (n_critic)."""
    packing: int = 1
    precision: Precision = contextlib.nullcontext
    """The context for networks. Penalties run outside it, because their second derivatives need float32."""

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
        def loss(part: Batch, latents: Tensor) -> Tensor:
            critic = self._critic(self.discriminator.network, part.condition, step)
            with self.precision():
                fake = self.generator.wrapped(latents, part.condition)
                logits = at_least_float32(critic(pack(fake, self.packing)))
                if self.objective.relative:
                    logits = logits - at_least_float32(critic(pack(part.samples, self.packing)))
                return self.objective.generator_loss(logits)

        latents = self.draw_latents(len(batch.samples), step, "generator")
        with _frozen(self.discriminator):
            return self.generator.update(microbatch_losses(loss, batch, latents, self.microbatches))

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


@contextlib.contextmanager
def _frozen(trainable: Trainable[Any]) -> Iterator[None]:
    """Compute no gradients of the network's parameters within the block."""
    for parameter in trainable.parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable.parameters:
            parameter.requires_grad_(True)
