"""What to do when memory runs out, in the words of the recipe."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from latentd.models.errors import LatentdError
from latentd.training.settings.base import Recipe
from latentd.training.world import World


class OutOfMemory(LatentdError):
    """A step did not fit; the message says which setting to lower and by how much."""


@contextmanager
def naming_the_remedy(recipe: Recipe, world: World) -> Iterator[None]:
    """Within the block, running out of memory raises OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        raise OutOfMemory(_remedy(recipe, world, "the GPU's memory")) from problem
    except MemoryError as problem:
        raise OutOfMemory(_remedy(recipe, world, "memory")) from problem
    except RuntimeError as problem:
        if "can't allocate memory" not in str(problem):  # the CPU's allocator raises nothing more precise
            raise
        raise OutOfMemory(_remedy(recipe, world, "memory")) from problem


def _remedy(recipe: Recipe, world: World, what: str) -> str:
    computed = recipe.batch_size // recipe.microbatches // world.size
    said = f"{what} does not hold what a step needs for {computed} samples of batch_size={recipe.batch_size} at once; "
    remedies = []
    least = math.prod(recipe.divisors(world.size).values())
    fewest = recipe.min_batch * recipe.microbatches * world.size
    if recipe.batch_size % (2 * least) == 0 and recipe.batch_size >= 2 * fewest:
        remedies.append(f"microbatches={recipe.microbatches * 2} (the same batch, in smaller parts)")
    if (smaller := recipe.batch_size // 2 // least * least) >= fewest:
        remedies.append(f"batch_size={smaller} (another run: choose another --out)")
    if not remedies:
        configs = ", ".join(f"{network}.config" for network in recipe.builders)
        return f"{said}these are the fewest; make the networks narrower ({configs})"
    return f"{said}set {' or '.join(remedies)}"
