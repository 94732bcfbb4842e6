"""From a recipe to an algorithm that is ready to be played: networks, optimizers and inputs, on their device."""

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
from latentd.training.loader import load_batches, send
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
    """What an algorithm is built from, besides its recipe."""

    source: DataSource
    spec: GeneratorSpec
    seed: int
    device: torch.device
    world: World
    done: int = 0
    """Steps that the run has done before."""


def build(recipe: Recipe, context: BuildContext) -> Algorithm:
    """Return the algorithm of `recipe`, its networks freshly initialised from the run's seed.

    `training.state.restore` then loads the state of a run that resumes.
    """
    _choose_kernels(recipe, context.device)
    seed_default(seed_for(context.seed, "networks"))
    return _build(recipe, context)


@singledispatch
def _build(recipe: Recipe, context: BuildContext) -> Algorithm:
    raise NotImplementedError(f"no algorithm for {type(recipe).__name__}")


@_build.register
def _adversarial(recipe: AdversarialRecipe, context: BuildContext) -> Algorithm:
    spec, device = context.spec, context.device
    generator = _place(build_generator(spec), device)
    discriminator = _place(recipe.build_discriminator(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    penalties = recipe.make_penalties()
    if recipe.compile:
        generator.compile()
        if not penalties:  # compiled networks have no second derivatives
            discriminator.compile()
    return AdversarialAlgorithm(
        generator=_trainable(recipe, generator, recipe.generator_lr, context),
        discriminator=_trainable(recipe, discriminator, recipe.discriminator_lr, context),
        objective=recipe.make_objective(),
        ema=ema,
        batches=_batches(recipe, context),
        draw_latents=partial(draw_latents, spec, context.seed, device, context.world),
        seed=context.seed,
        penalties=penalties,
        augment=_augment(recipe, device),
        noise=fading(recipe.steps, **recipe.noise.model_dump()) if recipe.noise else None,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        discriminator_steps=recipe.discriminator_steps,
        microbatches=recipe.microbatches,
        packing=recipe.packing,
        precision=_precision(recipe, device),
        world=context.world,
    )


@_build.register
def _reconstruction(recipe: EncodedRecipe, context: BuildContext) -> Algorithm:
    spec, device = context.spec, context.device
    generator = _place(build_generator(spec), device)
    encoder = _place(recipe.build_encoder(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    if recipe.compile:
        generator.compile()
        encoder.compile()
    autoencoder = recipe.make_autoencoder(encoder, generator, _precision(recipe, device))
    return ReconstructionAlgorithm(
        autoencoder=_trainable(recipe, autoencoder, recipe.lr, context),
        ema=ema,
        batches=_batches(recipe, context),
        draw_latents=partial(draw_latents, spec, context.seed, device, context.world),
        seed=context.seed,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        microbatches=recipe.microbatches,
        world=context.world,
    )


@_build.register
def _moments(recipe: GaussianRecipe, context: BuildContext) -> Algorithm:
    generator = recipe.build_generator(context.spec).to(context.device)
    return GaussianAlgorithm(
        generator=generator,
        moments=Moments(math.prod(context.spec.output.shape)).to(context.device),
        ema=Ema(generator, decay=0.0),
        batches=_batches(recipe, context),
        seed=context.seed,
        microbatches=recipe.microbatches,
        world=context.world,
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


def _batches(recipe: Recipe, context: BuildContext) -> Iterator[Batch]:
    first = context.done * recipe.batches_per_step
    condition, size = context.spec.condition, recipe.batch_size
    return load_batches(context.source, condition, size, context.seed, first, context.device, context.world)


def _trainable(recipe: LearntRecipe, network: Network, lr: float, context: BuildContext) -> Trainable[Network]:
    return Trainable(network, _optimizer(recipe, network, lr), context.world.averaging(network, context.device), lr)


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
