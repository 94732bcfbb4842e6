"""From a recipe to an algorithm: networks, optimizers and data on their device, ready to train."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer, RMSprop

from latentd.models.families import build_generator
from latentd.models.spec import GeneratorSpec
from latentd.training.adversarial.augment import VIEWS, Augment
from latentd.training.algorithms.autoencoder import ReconstructionAlgorithm
from latentd.training.algorithms.gan import AdversarialAlgorithm
from latentd.training.algorithms.gaussian import GaussianAlgorithm, Moments
from latentd.training.data.source import Batch, DataSource
from latentd.training.ema import Ema
from latentd.training.loader import load_batches, to_device
from latentd.training.loop import Algorithm, Precision, Trainable
from latentd.training.randomness import generator_for, seed_default, seed_for
from latentd.training.recipes.base import OptimizedRecipe, Recipe
from latentd.training.schedule import linear_fade, schedule
from latentd.training.settings.adversarial import AdversarialRecipe
from latentd.training.settings.autoencoder import EncoderRecipe
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
    steps_done: int = 0
    """Steps that the run did before it was resumed."""


def build(recipe: Recipe, context: BuildContext) -> Algorithm:
    """Return the algorithm of `recipe`, its networks freshly initialized from the run's seed.

    The batches continue after `steps_done` steps; `training.state.restore` loads the rest of a run that resumes.
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
    generator = _to_channels_last(build_generator(spec), device)
    discriminator = _to_channels_last(recipe.build_discriminator(spec), device)
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
        draw_latents=_latents(context),
        seed=context.seed,
        penalties=penalties,
        augment=_augment(recipe, device),
        noise=linear_fade(recipe.steps, **recipe.noise.model_dump()) if recipe.noise else None,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        discriminator_steps=recipe.discriminator_steps,
        microbatches=recipe.microbatches,
        packing=recipe.packing,
        precision=_precision(recipe, device),
        world=context.world,
    )


@_build.register
def _reconstruction(recipe: EncoderRecipe, context: BuildContext) -> Algorithm:
    spec, device = context.spec, context.device
    generator = _to_channels_last(build_generator(spec), device)
    encoder = _to_channels_last(recipe.build_encoder(spec), device)
    ema = Ema(generator, recipe.ema_decay)
    if recipe.compile:
        generator.compile()
        encoder.compile()
    autoencoder = recipe.make_autoencoder(encoder, generator, _precision(recipe, device))
    return ReconstructionAlgorithm(
        autoencoder=_trainable(recipe, autoencoder, recipe.lr, context),
        ema=ema,
        batches=_batches(recipe, context),
        draw_latents=_latents(context),
        seed=context.seed,
        schedule=schedule(recipe.steps, **recipe.schedule.model_dump()),
        microbatches=recipe.microbatches,
        world=context.world,
    )


@_build.register
def _gaussian(recipe: GaussianRecipe, context: BuildContext) -> Algorithm:
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


def _to_channels_last(network: Network, device: torch.device) -> Network:
    """Move to the device, with convolutions in channels_last, which is faster on tensor cores and on CPUs."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this overload
    return network


def _batches(recipe: Recipe, context: BuildContext) -> Iterator[Batch]:
    first = context.steps_done * recipe.batches_per_step
    condition, size = context.spec.condition, recipe.batch_size
    return load_batches(context.source, condition, size, context.seed, first, context.device, context.world)


def _latents(context: BuildContext) -> Callable[..., Tensor]:
    return partial(draw_latents, context.spec, context.seed, context.device, context.world)


def _trainable(recipe: OptimizedRecipe, network: Network, lr: float, context: BuildContext) -> Trainable[Network]:
    return Trainable(network, _optimizer(recipe, network, lr), context.world.wrap(network, context.device), lr)


def _optimizer(recipe: OptimizedRecipe, module: Module, lr: float) -> Optimizer:
    if recipe.optimizer == "rmsprop":
        return RMSprop(module.parameters(), lr=lr, alpha=recipe.betas[1], foreach=True)
    return Adam(module.parameters(), lr=lr, betas=recipe.betas, fused=True)


def _augment(recipe: AdversarialRecipe, device: torch.device) -> Augment | None:
    if recipe.augment is None:
        return None
    views = [VIEWS[name] for name in recipe.augment.views]
    return Augment(views, recipe.augment.target, recipe.augment.speed).to(device)


def _precision(recipe: OptimizedRecipe, device: torch.device) -> Precision:
    bfloat16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
    return partial(torch.autocast, device.type, dtype=torch.bfloat16) if bfloat16 else contextlib.nullcontext


def draw_latents(
    spec: GeneratorSpec, seed: int, device: torch.device, world: World, count: int, *purpose: int | str
) -> Tensor:
    """Return this rank's latents [count, dim], drawn from `seed` and `purpose`.

    All ranks draw the same rows and take their own, so that latents do not depend on the number of ranks.
    """
    latents = spec.input.draw_tensor(count * world.size, generator_for(seed, "latents", *purpose))
    return to_device(world.shard(latents), device)
