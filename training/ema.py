"""The exponential moving average of a generator. It is the generator that is saved and served."""

import copy
from itertools import chain

import torch
from torch import Tensor

from latentd.models.family import Generator


class Ema:
    """An average of a generator's weights and running statistics, with its own copy of the network.

    Each update moves the average by (1 - decay) toward the generator (Yazıcı et al. 2019,
    https://arxiv.org/abs/1806.04498). The decay of update t is min(decay, (1 + t) / (10 + t)), so that short runs
    forget their random start too (as `num_updates` of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        """`decay`: from 0 (no averaging) to 1, exclusive."""
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        pairs = list(zip(_tensors(self.generator), _tensors(generator), strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._values = [value for _, value in pairs if value.is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._decay = decay
        self.updates = 0
        """Number of updates so far."""

    @torch.no_grad()
    def update(self) -> None:
        """Move toward the generator. Integer buffers are copied."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        for average, value in self._copied:
            average.copy_(value)


def _tensors(generator: Generator) -> chain[Tensor]:
    return chain(generator.parameters(), generator.buffers())
