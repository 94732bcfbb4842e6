"""The exponential moving average of a generator, which is what gets kept and served."""

import copy

import torch

from models.family import Generator


class Ema:
    """Follows a generator: weights and running statistics move by (1 - decay) toward it at every update.

    Yazıcı et al. 2019, https://arxiv.org/abs/1806.04498. The decay ramps up as min(decay, (1 + t) / (10 + t)), so that
    the average forgets its random start even in short runs.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        self._decay = decay
        self.updates = 0
        """How often it was updated."""

    @torch.no_grad()
    def update(self, source: Generator) -> None:
        """Move toward `source`; integer buffers are copied."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        state = source.state_dict()
        for name, average in self.generator.state_dict().items():
            if average.is_floating_point():
                average.lerp_(state[name], 1 - decay)
            else:
                average.copy_(state[name])
