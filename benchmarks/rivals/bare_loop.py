"""What a person writes by hand to train the networks of a recipe: the plain PyTorch loop, with nothing around it."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

from latentd.models.families import build_generator
from latentd.training.settings.adversarial import AdversarialRecipe


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    on_real = binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return on_real + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


_LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (_hinge, lambda fake: -fake.mean()),
    "non-saturating": (_cross_entropy, lambda fake: softplus(-fake).mean()),
}


def bare_loop(
    recipe: AdversarialRecipe, batches: Iterator[Tensor], device: torch.device, tuned: bool
) -> Callable[[], None]:
    """A function that plays one step; `tuned` takes the fused optimizer, and averages weights all at once."""
    spec = recipe.spec()
    generator = build_generator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = recipe.build_discriminator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).requires_grad_(False)
    of_generator = torch.optim.Adam(generator.parameters(), recipe.generator_lr, recipe.betas, fused=tuned)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), recipe.discriminator_lr, recipe.betas, fused=tuned)
    discriminator_loss, generator_loss = _LOSSES[recipe.objective]
    size = (recipe.batch_size, spec.input.dim)

    def step() -> None:
        real = next(batches)
        with torch.no_grad():
            fake = generator(torch.randn(size).to(device))
        loss = discriminator_loss(discriminator(real), discriminator(fake))
        of_discriminator.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        of_discriminator.step()

        discriminator.requires_grad_(False)
        loss = generator_loss(discriminator(generator(torch.randn(size).to(device))))
        of_generator.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        of_generator.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            if tuned:
                torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - recipe.ema_decay)
            else:
                for kept, new in zip(average.parameters(), generator.parameters(), strict=True):
                    kept.lerp_(new, 1 - recipe.ema_decay)
            for kept, new in zip(average.buffers(), generator.buffers(), strict=True):
                kept.copy_(new)
        loss.item()

    return step
