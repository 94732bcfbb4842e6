"""From a recipe to an algorithm: networks, optimizers and data on their device, ready to train."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Adam, Optimizer, RMSprop

from latentd.models.spec import GeneratorSpec
from latentd.training.algorithms.base import Algorithm, Precision, Trainable
from latentd.training.data.loader import load_batches, to_device
from latentd.training.data.source import Batch, DataSource
from latentd.training.randomness import generator_for, seed_default, seed_for
from latentd.training.recipes.base import OptimizedRecipe, Recipe
from latentd.training.recipes.files import RecipeError
from latentd.training.run.first_weights import load_first_weights
from latentd.training.schedule import Schedule, schedule
from latentd.training.world import World

Network = TypeVar("Network", bound=Module)


@dataclass(frozen=True)
class BuildContext:
    """What an algorithm is built from, besides its recipe, and how its parts are made."""

    source: DataSource
    spec: GeneratorSpec
    seed: int
    device: torch.device
    world: World
    steps_done: int = 0
    """Steps that the run did before it was resumed."""
    _begun: set[str] = field(default_factory=set)
    """The keys of `begin_from` whose weights were loaded."""

    def network(self, recipe: Recipe, name: str, network: Network) -> Network:
        """Return `network` on the device.

        `name`: its name in the recipe's `begin_from`, and in state files if it is a trainable by itself. A new run
        loads its first weights if the recipe names them. Convolutions are in channels_last, which is faster on tensor
        cores and on CPUs.
        """
        if not self.steps_done:
            self._begun.update(load_first_weights(network, name, recipe.begin_from))
        network.to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this overload
        return network

    def require_all_begun(self, recipe: Recipe) -> None:
        """Raise RecipeError if `begin_from` names a network that the algorithm does not have."""
        if not self.steps_done and (unknown := sorted(recipe.begin_from.keys() - self._begun)):
            raise RecipeError(f"begin_from.{unknown[0]}: objective {recipe.objective} has no such network")

    def trainable(self, recipe: OptimizedRecipe, network: Network, lr: float) -> Trainable[Network]:
        """Return `network` with the recipe's optimizer."""
        return Trainable(network, _optimizer(recipe, network, lr), self.world.wrap(network, self.device), lr)

    def batches(self, recipe: Recipe, domain: str | None = None) -> Iterator[Batch]:
        """Return this rank's batches of the data, or of one of its domains. They continue after `steps_done` steps."""
        source = self.source if domain is None else self.source.domain(domain)
        first = self.steps_done * recipe.batches_per_step
        return load_batches(source, self.spec.condition, recipe.batch_size, self.seed, first, self.device, self.world)

    @property
    def draw_latents(self) -> Callable[..., Tensor]:
        """`draw_latents(count, *purpose)` → this rank's latents [count, dim], on the device."""
        return partial(draw_latents, self.spec, self.seed, self.device, self.world)

    def schedule(self, recipe: OptimizedRecipe) -> Schedule:
        """Return the factor on the learning rates, by step."""
        return schedule(recipe.steps, **recipe.schedule.model_dump())

    def precision(self, recipe: OptimizedRecipe) -> Precision:
        """Return the context in which networks run."""
        automatic = recipe.precision == "auto" and self.device.type == "cuda"
        if recipe.precision == "bfloat16" or automatic:
            return partial(torch.autocast, self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext


def build(recipe: Recipe, context: BuildContext) -> Algorithm:
    """Return the algorithm of `recipe`, its networks freshly initialized from the run's seed.

    The batches continue after `steps_done` steps; `training.run.state.restore` loads the rest of a run that resumes.
    """
    _choose_kernels(recipe, context.device)
    seed_default(seed_for(context.seed, "networks"))
    algorithm = recipe.build(context)
    context.require_all_begun(recipe)
    return algorithm


def _choose_kernels(recipe: Recipe, device: torch.device) -> None:
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _optimizer(recipe: OptimizedRecipe, module: Module, lr: float) -> Optimizer:
    if recipe.optimizer == "rmsprop":
        return RMSprop(module.parameters(), lr=lr, alpha=recipe.betas[1], foreach=True)
    return Adam(module.parameters(), lr=lr, betas=recipe.betas, fused=True)


def draw_latents(
    spec: GeneratorSpec, seed: int, device: torch.device, world: World, count: int, *purpose: int | str
) -> Tensor:
    """Return this rank's latents [count, dim], drawn from `seed` and `purpose`.

    All ranks draw the same rows and take their own, so that latents do not depend on the number of ranks.
    """
    latents = spec.input.draw_tensor(count * world.size, generator_for(seed, "latents", *purpose))
    return to_device(world.shard(latents), device)
