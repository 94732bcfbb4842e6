"""The exponential moving average of a generator, which is what gets kept and served."""

import copy

import torch

from latentd.models.family import Generator


class Ema:
    """Follows a generator: weights and running statistics move by (1 - decay) toward it at every update.

    Yazıcı et al. 2019, https://arxiv.org/abs/1806.04498. The decay ramps up as min(decay, (1 + t) / (10 + t)), so that
    the average forgets its random start even in short runs (as `num_updates` of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        pairs = list(zip(self.generator.state_dict().values(), generator.state_dict().values(), strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._values = [value for _, value in pairs if value.is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._decay = decay
        self.updates = 0
        """How often it was updated."""

    @torch.no_grad()
    def update(self) -> None:
        """Move toward the generator; integer buffers are copied."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        for average, value in self._copied:
            average.copy_(value)
