"""From a recipe to a game that is ready to be played: networks, optimizers and inputs, on their device."""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer, RMSprop

from models.families import build_generator
from models.spec import GeneratorSpec
from training.augment import VIEWS, Augment
from training.data.source import DataSource
from training.ema import Ema
from training.feed import feed, send
from training.loop import Game, Player
from training.randomness import generator_for, seed_default, seed_for
from training.recipe import Recipe
from training.schedule import schedule
from training.world import World

Network = TypeVar("Network", bound=Module)


def assemble(
    recipe: Recipe, source: DataSource, spec: GeneratorSpec, seed: int, device: torch.device, world: World, done: int
) -> Game:
    """The game of `recipe`, of which `done` steps were played before; `restore` puts it where it was then."""
    _choose_kernels(recipe, device)
    seed_default(seed_for(seed, "networks"))
    generator = _place(build_generator(spec), device)
    discriminator = _place(recipe.build_discriminator(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    penalties = recipe.make_penalties()
    if recipe.compile:
        generator.compile()
        if not penalties:  # compiled networks have no second derivatives
            discriminator.compile()
    return Game(
        generator=_player(recipe, generator, recipe.generator_lr, device, world),
        discriminator=_player(recipe, discriminator, recipe.discriminator_lr, device, world),
        objective=recipe.make_objective(),
        ema=ema,
        batches=feed(source, spec.condition, recipe.batch_size, seed, done * recipe.discriminator_steps, device, world),
        draw_latents=partial(draw_latents, spec, seed, device, world),
        seed=seed,
        penalties=penalties,
        augment=_augment(recipe, device),
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        discriminator_steps=recipe.discriminator_steps,
        microbatches=recipe.microbatches,
        packing=recipe.packing,
        precision=_precision(recipe, device),
        world=world,
    )


def _choose_kernels(recipe: Recipe, device: torch.device) -> None:
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _place(network: Network, device: torch.device) -> Network:
    """On the device, convolutions in channels_last, which is faster on CUDA's tensor cores and on CPUs."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this overload
    return network


def _player(recipe: Recipe, network: Network, lr: float, device: torch.device, world: World) -> Player[Network]:
    return Player(network, _optimizer(recipe, network, lr), world.averaging(network, device), lr)


def _optimizer(recipe: Recipe, module: Module, lr: float) -> Optimizer:
    if recipe.optimizer == "rmsprop":
        return RMSprop(module.parameters(), lr=lr, alpha=recipe.betas[1], foreach=True)
    return Adam(module.parameters(), lr=lr, betas=recipe.betas, fused=True)


def _augment(recipe: Recipe, device: torch.device) -> Augment | None:
    if recipe.augment is None:
        return None
    views = [VIEWS[name] for name in recipe.augment.views]
    return Augment(views, recipe.augment.target, recipe.augment.speed).to(device)


def _precision(recipe: Recipe, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """bfloat16 where CUDA's tensor cores make it pay, or where it is asked for."""
    wanted = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
    return partial(torch.autocast, device.type, dtype=torch.bfloat16) if wanted else contextlib.nullcontext


def draw_latents(
    spec: GeneratorSpec, seed: int, device: torch.device, world: World, count: int, *purpose: int | str
) -> Tensor:
    """This rank's `count` of those that all ranks draw alike, so that a latent does not depend on how many they are."""
    shape = (count * world.size, spec.input.dim)
    random = generator_for(seed, "latents", *purpose)
    if spec.input.distribution == "uniform":
        latents = torch.rand(shape, generator=random) * 2 - 1
    else:
        latents = torch.randn(shape, generator=random)
    return send(world.share(latents), device)
