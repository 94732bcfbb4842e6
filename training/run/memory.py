"""What to change in the recipe when memory runs out."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from latentd.models.errors import LatentdError
from latentd.training.recipes.base import Recipe
from latentd.training.world import World


class OutOfMemory(LatentdError):
    """A step did not fit into memory. The message says which setting to lower, and to what."""

    every_rank_reports = True


@contextmanager
def explain_out_of_memory(recipe: Recipe, world: World) -> Iterator[None]:
    """Within the block, running out of memory raises OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        raise OutOfMemory(_advice(recipe, world, "the GPU's memory")) from problem
    except MemoryError as problem:
        raise OutOfMemory(_advice(recipe, world, "memory")) from problem
    except RuntimeError as problem:
        if "can't allocate memory" not in str(problem):  # the CPU's allocator raises nothing more precise
            raise
        raise OutOfMemory(_advice(recipe, world, "memory")) from problem


def _advice(recipe: Recipe, world: World, memory: str) -> str:
    at_once = recipe.batch_size // recipe.microbatches // world.size
    problem = f"{memory} is too small for {at_once} samples of batch_size={recipe.batch_size} at once; "
    options = []
    divisor = math.prod(recipe.batch_divisors(world.size).values())
    smallest = recipe.min_batch * recipe.microbatches * world.size
    if recipe.batch_size % (2 * divisor) == 0 and recipe.batch_size >= 2 * smallest:
        options.append(f"microbatches={recipe.microbatches * 2} (the same batch, in smaller parts)")
    if (smaller := recipe.batch_size // 2 // divisor * divisor) >= smallest:
        options.append(f"batch_size={smaller} (another run: choose another folder by `out` or `--out`)")
    if not options:
        configs = ", ".join(f"{network}.config" for network in recipe.builders)
        return f"{problem}the batch cannot be smaller; make the networks narrower ({configs})"
    return f"{problem}set {' or '.join(options)}"
