"""A plain PyTorch loop, written by hand, that trains the networks of a recipe."""

import copy
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from latentd.models.families import build_generator
from latentd.training.algorithms.gan import GanRecipe


def _discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    on_real = binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return on_real + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def _generator_loss(fake: Tensor) -> Tensor:
    return softplus(-fake).mean()


def graphed_training_loop(
    recipe: GanRecipe, batches: Iterator[Tensor], device: torch.device, precision: torch.dtype
) -> Callable[[], None]:
    """Return a function that trains one step, which is one CUDA graph: Python launches nothing but copies.

    `precision`: of the networks, float32 or bfloat16.
    """
    spec = recipe.spec()
    generator = build_generator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = recipe.build_discriminator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).requires_grad_(False)
    adam = partial(torch.optim.Adam, betas=recipe.betas, fused=True, capturable=True)
    generator_optimizer = adam(generator.parameters(), recipe.generator_lr)
    discriminator_optimizer = adam(discriminator.parameters(), recipe.discriminator_lr)
    real = next(batches).clone()
    size = (recipe.batch_size, spec.input.size)

    def networks() -> torch.autocast:
        # the cache of casted weights would be filled in one replay and used in the next
        return torch.autocast(device.type, precision, enabled=precision != torch.float32, cache_enabled=False)

    def step() -> None:
        with networks():
            with torch.no_grad():
                fake = generator(torch.randn(size, device=device))
            loss = _discriminator_loss(discriminator(real).float(), discriminator(fake).float())
        discriminator_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        discriminator_optimizer.step()
        discriminator.requires_grad_(False)
        with networks():
            loss = _generator_loss(discriminator(generator(torch.randn(size, device=device))).float())
        generator_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        generator_optimizer.step()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - recipe.ema_decay)
            for averaged, current in zip(average.buffers(), generator.buffers(), strict=True):
                averaged.copy_(current)

    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries and optimizers initialize themselves
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    with torch.cuda.graph(graph):
        step()

    def run() -> None:
        real.copy_(next(batches))
        graph.replay()

    return run


def training_loop(
    recipe: GanRecipe, batches: Iterator[Tensor], device: torch.device, tuned: bool
) -> Callable[[], None]:
    """Return a function that trains one step. `tuned`: fused Adam, and all weights averaged in one call."""
    spec = recipe.spec()
    generator = build_generator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = recipe.build_discriminator(spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(generator).requires_grad_(False)
    generator_optimizer = torch.optim.Adam(generator.parameters(), recipe.generator_lr, recipe.betas, fused=tuned)
    discriminator_optimizer = torch.optim.Adam(
        discriminator.parameters(), recipe.discriminator_lr, recipe.betas, fused=tuned
    )
    size = (recipe.batch_size, spec.input.size)

    def step() -> None:
        real = next(batches)
        with torch.no_grad():
            fake = generator(torch.randn(size).to(device))
        loss = _discriminator_loss(discriminator(real), discriminator(fake))
        discriminator_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        discriminator_optimizer.step()

        discriminator.requires_grad_(False)
        loss = _generator_loss(discriminator(generator(torch.randn(size).to(device))))
        generator_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        generator_optimizer.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            if tuned:
                torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - recipe.ema_decay)
            else:
                for averaged, current in zip(average.parameters(), generator.parameters(), strict=True):
                    averaged.lerp_(current, 1 - recipe.ema_decay)
            for averaged, current in zip(average.buffers(), generator.buffers(), strict=True):
                averaged.copy_(current)
        loss.item()

    return step
