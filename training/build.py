"""From a recipe to a game that is ready to be played: networks, optimizers and inputs, on their device."""

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer, RMSprop

from latentd.models.families import build_generator
from latentd.models.spec import GeneratorSpec
from latentd.training.adversarial import AdversarialAlgorithm
from latentd.training.augment import VIEWS, Augment
from latentd.training.data.source import Batch, DataSource
from latentd.training.ema import Ema
from latentd.training.gaussian import GaussianAlgorithm, Moments
from latentd.training.loader import feed, send
from latentd.training.loop import Algorithm, Precision, Trainable
from latentd.training.randomness import generator_for, seed_default, seed_for
from latentd.training.reconstruction import ReconstructionAlgorithm
from latentd.training.schedule import fading, schedule
from latentd.training.settings.adversarial import AdversarialRecipe
from latentd.training.settings.autoencoder import EncodedRecipe
from latentd.training.settings.base import LearntRecipe, Recipe
from latentd.training.settings.gaussian import GaussianRecipe
from latentd.training.world import World

Network = TypeVar("Network", bound=Module)


@dataclass(frozen=True)
class BuildContext:
    """Where a game is played: all that does not stand in its recipe."""

    source: DataSource
    spec: GeneratorSpec
    seed: int
    device: torch.device
    world: World
    done: int
    """Steps that were played before."""


def assemble(
    recipe: Recipe, source: DataSource, spec: GeneratorSpec, seed: int, device: torch.device, world: World, done: int
) -> Algorithm:
    """The game of `recipe`, of which `done` steps were played before; `restore` puts it where it was then."""
    _choose_kernels(recipe, device)
    seed_default(seed_for(seed, "networks"))
    return game_of(recipe, BuildContext(source, spec, seed, device, world, done))


@singledispatch
def game_of(recipe: Recipe, setting: BuildContext) -> Algorithm:
    """The game that a kind of recipe is of."""
    raise NotImplementedError(f"no game is of {type(recipe).__name__}")


@game_of.register
def _adversarial(recipe: AdversarialRecipe, setting: BuildContext) -> Algorithm:
    spec, device = setting.spec, setting.device
    generator = _place(build_generator(spec), device)
    discriminator = _place(recipe.build_discriminator(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    penalties = recipe.make_penalties()
    if recipe.compile:
        generator.compile()
        if not penalties:  # compiled networks have no second derivatives
            discriminator.compile()
    return AdversarialAlgorithm(
        generator=_player(recipe, generator, recipe.generator_lr, setting),
        discriminator=_player(recipe, discriminator, recipe.discriminator_lr, setting),
        objective=recipe.make_objective(),
        ema=ema,
        batches=_batches(recipe, setting),
        draw_latents=partial(draw_latents, spec, setting.seed, device, setting.world),
        seed=setting.seed,
        penalties=penalties,
        augment=_augment(recipe, device),
        noise=fading(recipe.steps, **recipe.noise.model_dump()) if recipe.noise else None,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        discriminator_steps=recipe.discriminator_steps,
        microbatches=recipe.microbatches,
        packing=recipe.packing,
        precision=_precision(recipe, device),
        world=setting.world,
    )


@game_of.register
def _reconstruction(recipe: EncodedRecipe, setting: BuildContext) -> Algorithm:
    spec, device = setting.spec, setting.device
    generator = _place(build_generator(spec), device)
    encoder = _place(recipe.build_encoder(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    if recipe.compile:
        generator.compile()
        encoder.compile()
    autoencoder = recipe.make_autoencoder(encoder, generator, _precision(recipe, device))
    return ReconstructionAlgorithm(
        autoencoder=_player(recipe, autoencoder, recipe.lr, setting),
        ema=ema,
        batches=_batches(recipe, setting),
        draw_latents=partial(draw_latents, spec, setting.seed, device, setting.world),
        seed=setting.seed,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        microbatches=recipe.microbatches,
        world=setting.world,
    )


@game_of.register
def _moments(recipe: GaussianRecipe, setting: BuildContext) -> Algorithm:
    generator = recipe.build_generator(setting.spec).to(setting.device)
    return GaussianAlgorithm(
        generator=generator,
        moments=Moments(math.prod(setting.spec.output.shape)).to(setting.device),
        ema=Ema(generator, decay=0.0),
        batches=_batches(recipe, setting),
        seed=setting.seed,
        microbatches=recipe.microbatches,
        world=setting.world,
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


def _batches(recipe: Recipe, setting: BuildContext) -> Iterator[Batch]:
    first = setting.done * recipe.batches_a_step
    condition, size = setting.spec.condition, recipe.batch_size
    return feed(setting.source, condition, size, setting.seed, first, setting.device, setting.world)


def _player(recipe: LearntRecipe, network: Network, lr: float, setting: BuildContext) -> Trainable[Network]:
    return Trainable(network, _optimizer(recipe, network, lr), setting.world.averaging(network, setting.device), lr)


def _optimizer(recipe: LearntRecipe, module: Module, lr: float) -> Optimizer:
    if recipe.optimizer == "rmsprop":
        return RMSprop(module.parameters(), lr=lr, alpha=recipe.betas[1], foreach=True)
    return Adam(module.parameters(), lr=lr, betas=recipe.betas, fused=True)


def _augment(recipe: AdversarialRecipe, device: torch.device) -> Augment | None:
    if recipe.augment is None:
        return None
    views = [VIEWS[name] for name in recipe.augment.views]
    return Augment(views, recipe.augment.target, recipe.augment.speed).to(device)


def _precision(recipe: LearntRecipe, device: torch.device) -> Precision:
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
