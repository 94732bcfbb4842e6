"""The training loop, the same for every algorithm."""

import math
from collections.abc import Callable

import torch

from latentd.training.algorithms.base import Algorithm, Losses
from latentd.training.randomness import seed_default, seed_for


def train(
    algorithm: Algorithm,
    steps: int,
    on_step: Callable[[int, Losses], None],
    should_stop: Callable[[], bool] = lambda: False,
    steps_done: int = 0,
) -> int:
    """Train until `steps` steps are done. `steps_done`: those that were done before. Return the number of steps done.

    Stops early when `should_stop()` is true on any rank. Calls `on_step(step, losses)` after each step, counted from 1.
    The random numbers of a step depend on the run's seed and the step alone. Raises TrainingDiverged if a loss is not
    finite.
    """
    trainables = algorithm.trainables.values()
    for step in range(steps_done + 1, steps + 1):
        if algorithm.world.any(should_stop()):
            return step - 1
        seed_default(seed_for(algorithm.seed, "step", step, algorithm.world.rank))
        for trainable in trainables:
            for group in trainable.optimizer.param_groups:
                group["lr"] = trainable.lr * algorithm.schedule(step)
        tensors = algorithm.step(step)
        losses = dict(zip(tensors, algorithm.world.mean(torch.stack(list(tensors.values()))).tolist(), strict=True))
        if not all(map(math.isfinite, losses.values())):
            raise algorithm.divergence_error(step, "a loss")
        for ema in algorithm.emas:
            ema.update()
        on_step(step, losses)
    return steps
