"""Numbers that change with the step. They depend on the step's number alone, so there is nothing to save."""

import math
from collections.abc import Callable
from typing import Literal

Schedule = Callable[[int], float]
"""Step, counted from 1 → a factor on the learning rates, or a strength of noise."""

Decay = Literal["none", "linear", "cosine"]


def schedule(steps: int, decay: Decay = "none", decay_from: float = 0.0, warmup: int = 0) -> Schedule:
    """Return a factor that rises to 1 in `warmup` steps, and decays to 0 after the fraction `decay_from` of `steps`.

    The decay reaches 0 at step `steps` + 1. Warm-up: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2.
    Linear: Zhu et al. 2017, https://arxiv.org/abs/1703.10593, section 4. Cosine: Loshchilov and Hutter 2016,
    https://arxiv.org/abs/1608.03983, eq. 5.
    """
    curve = _DECAYS[decay]
    first = round(decay_from * steps)

    def factor(step: int) -> float:
        rise = min(1.0, step / warmup) if warmup else 1.0
        progress = max(0, step - 1 - first) / max(1, steps - first)
        return rise * curve(min(1.0, progress))

    return factor


def linear_fade(steps: int, start: float, until: float) -> Schedule:
    """Return a value that falls linearly from `start` to 0. It reaches 0 after the fraction `until` of `steps`."""
    last = until * steps
    return lambda step: max(0.0, start * (1 - (step - 1) / last))


_DECAYS: dict[Decay, Callable[[float], float]] = {
    "none": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
