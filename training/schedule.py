"""What changes with the steps, from a step's number alone, so that there is nothing to save."""

import math
from collections.abc import Callable
from typing import Literal

Schedule = Callable[[int], float]
"""Step, counted from 1 → a number: what the learning rates are multiplied by, or how strong the noise is."""

Decay = Literal["none", "linear", "cosine"]


def schedule(steps: int, decay: Decay = "none", decay_from: float = 0.0, warmup: int = 0) -> Schedule:
    """Up to 1 in `warmup` steps, then 1, and after the share `decay_from` of `steps` down to 0, reached after the last.

    Warm-up: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2. Linear: Zhu et al. 2017,
    https://arxiv.org/abs/1703.10593, section 4. Cosine: Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983,
    eq. 5.
    """
    curve = _DECAYS[decay]
    first = round(decay_from * steps)

    def factor(step: int) -> float:
        rise = min(1.0, step / warmup) if warmup else 1.0
        past = max(0, step - 1 - first) / max(1, steps - first)
        return rise * curve(min(1.0, past))

    return factor


def fading(steps: int, start: float, until: float) -> Schedule:
    """From `start` down to 0 in a straight line, reached after the share `until` of `steps`."""
    last = until * steps
    return lambda step: max(0.0, start * (1 - (step - 1) / last))


_DECAYS: dict[Decay, Callable[[float], float]] = {
    "none": lambda past: 1.0,
    "linear": lambda past: 1.0 - past,
    "cosine": lambda past: (1 + math.cos(math.pi * past)) / 2,
}
